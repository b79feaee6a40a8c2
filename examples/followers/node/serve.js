'use strict';
// Answers reads from stdin through a Follower: {"get": key} gives {"value": …, "hit": true}. What is not held it asks for
// with {"load": key}, and reads {"value": …}.
//
//   node serve.js redis://127.0.0.1:6379/0 NAMESPACE MAX_STALE POLL    (seconds)
const { createInterface } = require('node:readline');
const { Follower } = require('./follower');

async function main(url, namespace, maxStale, poll) {
  const follower = await new Follower(url, namespace, { maxStale: maxStale * 1_000, poll: poll * 1_000 }).start();
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  const hear = async () => JSON.parse((await lines.next()).value ?? 'null');
  for (let line; (line = await hear()); ) {
    let hit = true;
    const value = await follower.get(line.get, async (load) => {
      hit = false;
      say({ load });
      return (await hear()).value;
    });
    say({ value, hit });
  }
  process.exit(0);
}

main(...process.argv.slice(2));
