'use strict';
// Runs the vectors of the protocol and the rules of a follower: node vectors.js FOLDER
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { Follower } = require('./follower');
const { MAX_SEEN, now } = require('./lane');
const { laneOf, render, sectionsOf } = require('./names');

// Integers that a double does not hold become BigInt.
const vectors = (file) => JSON.parse(
  readFileSync(join(process.argv[2], file), 'utf8').replace(/: (-?\d{16,})([,}])/g, ': "$1n"$2'),
  (_, value) => (typeof value === 'string' && /^-?\d{16,}n$/.test(value) ? BigInt(value.slice(0, -1)) : value),
);
const SECTIONS = [{ dataset: 'users', hash: 'h1', names: { 'user:{id}': { id: 'integer' } } }];
const made = (more) => new Follower('redis://127.0.0.1:1/0', 'vectors', SECTIONS, { maxStale: 5_000, ...more }); // never started
const poll = (f, last, age = 0, lanes = '1', hash = 'h1') => f.lanes[0].polled(last, lanes, { users: hash }, now() - age * 1_000);
const at = (last, more) => {
  const f = made(more);
  poll(f, last);
  return f;
};
const put = (f, key, ttl) => f.read('users', key, () => 'old', ttl);
const kept = async (f, key) => (await f.read('users', key, () => 'new')) === 'old';
let failed = false;
const want = (name, got, wanted) => {
  if (JSON.stringify(got) === JSON.stringify(wanted)) return;
  failed = true;
  console.log(`${name}: got ${JSON.stringify(got)}, want ${JSON.stringify(wanted)}`);
};

async function frame(vector) {
  const payload = vector.payload ?? {};
  const f = at(vector.last || vector.prev || '0-0');
  for (const key of ['other', ...(payload.k ?? [])]) await put(f, key);
  f.lanes[0].message(vector.frame);
  const flushed = Boolean(vector.error || !vector.follows || payload.x || payload.g);
  want(vector.name, await kept(f, 'other'), !flushed);
  for (const key of payload.k ?? []) want(`${vector.name}: ${key}`, await kept(f, key), false);
  if (!vector.id) return;
  await tick();
  poll(f, vector.id); // the next entry follows this one, and a poll in between gives trust again
  await put(f, 'after');
  f.lanes[0].message(`${vector.id} 9-9 {"v":1}`);
  want(`${vector.name}, then the next`, await kept(f, 'after'), true);
}

const tick = () => new Promise((wake) => setTimeout(wake, 1)); // a later time than anything before

async function guard(name, message, stored) {
  const f = at('1-1');
  await f.read('users', 'a', async () => {
    f.lanes[0].message(message);
    return 'old';
  });
  await tick();
  poll(f, '2-2');
  want(`load while ${name} is invalidated`, await kept(f, 'a'), stored);
}

// What polls and frames do to an entry that is stored after the first of them and before the others.
async function story(name, before, after, stored) {
  const f = made();
  const play = async (steps) => {
    for (const step of steps) {
      if (typeof step === 'string') f.lanes[0].message(step);
      else poll(f, ...step);
      await tick();
    }
  };
  await play(before);
  await put(f, 'a');
  await play(after);
  want(name, await kept(f, 'a'), stored);
}

async function stories() {
  const flush = '1-1 2-2 {"v":1,"x":1}';
  const both = ['1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}'];
  await story('no poll', [], [], false);
  await story('a poll', [['1-1']], [], true);
  await story('an old poll', [['1-1', 6]], [], false);
  await story('a head that is not received yet', [['1-1', 6], ['2-2']], [], false);
  await story('a head that is received later', [['1-1', 6], ['2-2'], '1-1 2-2 {"v":1}'], [], true);
  await story('a head that was received before', [['1-1', 6], ...both, ['2-2']], [], true);
  await story('a head that is received', [['1-1']], [['2-2'], '1-1 2-2 {"v":1}', ['2-2']], true);
  await story('a head that is never received', [['1-1']], [['2-2'], ['2-2']], false);
  await story('the lane is gone', [['1-1']], [[null]], false);
  await story('another number of lanes', [['1-1', 0, '2']], [], false);
  await story('another number of lanes later', [['1-1']], [['1-1', 0, '2']], false);
  await story('another cache section', [['1-1', 0, '1', 'h2']], [], false);
  await story('another cache section later', [['1-1']], [['1-1', 0, '1', 'h2']], false);
  await story('another cache section in between', [['1-1']], [['1-1', 0, '1', 'h2'], ['1-1']], false);
  await story('a flush before the lane was looked at', [['1-1'], flush], [], false);
  await story('a flush and a look that was sent before it', [['1-1'], flush, ['2-2', 3]], [], false);
  await story('a flush and a look after it', [['1-1'], flush, ['2-2']], [], true);
}

// Readers of a hot key share one load, which is kept although they are many. After an invalidation they begin another, and the first is not kept.
async function hot() {
  let loads = 0;
  let go;
  let gate = new Promise((open) => { go = open; });
  const load = async () => {
    const number = ++loads;
    await gate;
    return number;
  };
  let f = at('1-1');
  let all = Array.from({ length: 20 }, () => f.read('users', 'hot', load));
  await tick();
  go();
  want('loads of a hot key', [loads, ...new Set(await Promise.all(all))], [1, 1]);
  want('the entry of a hot key', await f.read('users', 'hot', () => 'new'), 1);
  loads = 0;
  gate = new Promise((open) => { go = open; });
  f = at('1-1');
  all = [f.read('users', 'hot', load)];
  f.lanes[0].message('1-1 2-2 {"v":1,"k":["hot"],"n":[1]}');
  all.push(f.read('users', 'hot', load), f.read('users', 'hot', load));
  go();
  want('loads of a key that changes', [loads, ...await Promise.all(all)], [2, 1, 2, 2]);
  want('the entry of a key that changed', await f.read('users', 'hot', () => 'new'), 2);
}

const kindsOf = (values) => Object.fromEntries(Object.entries(values).map(([p, v]) => [p, { string: 'string', boolean: 'boolean' }[typeof v] ?? 'integer']));
const fails = (what) => {
  try {
    what();
    return false;
  } catch {
    return true;
  }
};

function names() {
  for (const v of vectors('names.json')) want(`name of ${v.template}`, render(v.template, kindsOf(v.values), v.values), v.name);
  for (const v of vectors('spellings.json')) want(`spelling ${JSON.stringify(v.values)}`, fails(() => render(v.template, v.kinds, v.values)), true);
  want('half a character', fails(() => render('u:{a}', { a: 'string' }, { a: '\ud83d' })), true);
  want('an integer as text', render('u:{a}', { a: 'integer' }, { a: '-42' }), 'u:-42');
  want('another template', fails(() => made().cache('users', 'users:{id}')), true);
  for (const hash of [null, undefined, '', '-']) {
    want(`the hash ${hash}`, fails(() => sectionsOf([{ dataset: 'users', hash, names: {} }])), true);
  }
}

// What goes on for long while polls fail, messages get lost, or the machine is suspended.
async function long() {
  let f = at('1-1');
  await put(f, 'a');
  const { now: wall } = Date;
  Date.now = () => wall() + 3_600_000; // as after a suspension, once the clock was set
  want('an entry from before the machine was suspended', await kept(f, 'a'), false);
  Date.now = wall;
  f = made();
  for (let i = 0; i < MAX_SEEN + 10; i++) f.lanes[0].message(`${i}-1 ${i + 1}-1 {"v":1}`); // no poll succeeds
  want('entries remembered without polls', f.lanes[0].remembered <= MAX_SEEN, true);
  f = at('1-1');
  for (const head of ['2-2', '3-3', '4-4', '5-5']) poll(f, head);
  want('messages that never arrive are told of', f.notReady().join('').includes('do not arrive'), true);
}

// A load that hangs keeps its key neither from its readers nor from being kept.
async function hangs() {
  const f = at('1-1', { loadTimeout: 50 });
  const all = [f.read('users', 'hangs', () => new Promise(() => {})), f.read('users', 'hangs', () => 'never')];
  want('readers of a load that hangs', (await Promise.allSettled(all)).map((r) => r.status), ['rejected', 'rejected']);
  await f.read('users', 'hangs', () => 'new');
  want('the entry of a key whose load hung', await f.read('users', 'hangs', () => 'later'), 'new');
}

async function main() {
  names();
  for (const v of vectors('keys.json')) want(`crc32 of ${v.key}`, laneOf(v.key, 2 ** 32), v.crc32);
  want('a missing property', render('u:{a}', { a: 'string' }, { a: null }), null);
  for (const vector of vectors('frames.json')) if (!vector.strict) await frame(vector);
  await guard('its key', '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', false);
  await guard('another key', '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', true);
  await guard('everything', '1-1 2-2 {"v":1,"x":1}', false);
  await stories();
  const f = at('1-1');
  await put(f, 'a', 0);
  want('an entry past its TTL', await kept(f, 'a'), false);
  await hot();
  await hangs();
  await long();
  process.exitCode = failed ? 1 : 0;
}

process.exitCode = 1; // also if something never settles: node ends then
main();
