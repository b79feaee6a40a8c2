'use strict';
// Runs the frame vectors of the protocol, and the guard of a load: node vectors.js FRAMES.json
const { readFileSync } = require('node:fs');
const { Follower } = require('./follower');

const at = (last) => {
  const f = new Follower('redis://127.0.0.1:1/0', 'vectors', { maxStale: 5_000 }); // never started
  if (last) f.head(last, performance.now());
  return f;
};
const put = (f, key) => f.get(key, () => 'old');
const kept = async (f, key) => (await f.get(key, () => 'new')) === 'old';
const want = (name, got, wanted) => {
  if (got === wanted) return;
  process.exitCode = 1;
  console.log(`${name}: got ${got}, want ${wanted}`);
};

async function frame(vector) {
  const payload = vector.payload ?? {};
  const f = at(vector.last || vector.prev || '0-0');
  for (const key of ['other', ...(payload.k ?? [])]) await put(f, key);
  f.message(vector.frame);
  const flushed = Boolean(vector.error || !vector.follows || payload.x || payload.g);
  want(vector.name, await kept(f, 'other'), !flushed);
  for (const key of payload.k ?? []) want(`${vector.name}: ${key}`, await kept(f, key), false);
  if (!vector.id) return;
  await put(f, 'after'); // the next entry follows this one
  f.message(`${vector.id} 9-9 {"v":1}`);
  want(`${vector.name}, then the next`, await kept(f, 'after'), true);
}

async function guard(name, message, stored) {
  const f = at('1-1');
  await f.get('a', async () => {
    f.message(message);
    return 'old';
  });
  want(`load while ${name} is invalidated`, await kept(f, 'a'), stored);
}

// What polls and frames do to an entry that is stored after the first of them and before the others.
async function story(name, before, after, stored) {
  const f = at();
  const play = (steps) => {
    for (const step of steps) {
      if (typeof step === 'string') f.message(step);
      else f.head(step[0], performance.now() - step[1] * 1_000);
    }
  };
  play(before);
  await put(f, 'a');
  play(after);
  want(name, await kept(f, 'a'), stored);
}

async function main(path) {
  for (const vector of JSON.parse(readFileSync(path, 'utf8'))) if (!vector.strict) await frame(vector);
  await guard('its key', '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', false);
  await guard('another key', '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', true);
  await guard('everything', '1-1 2-2 {"v":1,"x":1}', false);
  await story('no poll', [], [], false);
  await story('a poll', [['1-1', 0]], [], true);
  await story('an old poll', [['1-1', 6]], [], false);
  await story('a head that is not received yet', [['1-1', 6], ['2-2', 0]], [], false);
  await story('a head that is received later', [['1-1', 6], ['2-2', 0], '1-1 2-2 {"v":1}'], [], true);
  const both = ['1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}'];
  await story('a head that was received before', [['1-1', 6], ...both, ['2-2', 0]], [], true);
  await story('a head that is received', [['1-1', 0]], [['2-2', 0], '1-1 2-2 {"v":1}', ['2-2', 0]], true);
  await story('a head that is never received', [['1-1', 0]], [['2-2', 0], ['2-2', 0]], false);
  await story('the lane is gone', [['1-1', 0]], [[null, 0]], false);
}

main(process.argv[2]);
