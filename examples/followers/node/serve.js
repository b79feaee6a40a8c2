'use strict';
// Answers reads from stdin through a Follower: {"get": values} gives {"value": …, "hit": true}. What is not held it asks for
// with {"load": values}, and reads {"value": …}. {"get": null} tells why it is not ready.
//
//   node serve.js redis://127.0.0.1:6379/0 NAMESPACE MAX_STALE POLL LANES SECTIONS DATASET TEMPLATE TTL    (seconds)
const { createInterface } = require('node:readline');
const { Follower } = require('./follower');

async function main(url, namespace, maxStale, poll, lanes, sections, dataset, template, ttl) {
  const options = { lanes: Number(lanes), maxStale: maxStale * 1_000, poll: poll * 1_000 };
  const follower = new Follower(url, namespace, JSON.parse(sections), options);
  const cache = follower.cache(dataset, template, { ttl: ttl * 1_000 });
  follower.start();
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  const hear = async () => JSON.parse((await lines.next()).value ?? 'null');
  for (let line; (line = await hear()); ) {
    if (line.get === null) {
      say({ why: follower.notReady().join('; ') });
      continue;
    }
    let hit = true;
    const value = await cache.get(line.get, async (load) => {
      hit = false;
      say({ load });
      return (await hear()).value ?? null;
    });
    say({ value, hit });
  }
  process.exit(0);
}

main(...process.argv.slice(2));
