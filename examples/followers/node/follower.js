'use strict';
// A local cache that follows a Freshet namespace and never serves what is staler than maxStale milliseconds.
//
//   const sections = require('./sections.json');                // freshet schema hash --json > sections.json
//   const follower = new Follower('redis://127.0.0.1:6379/0', 'shop', sections, { lanes: 1 });
//   const users = follower.cache('users', 'user:{id}');
//   follower.start();
//   const user = await users.get({ id: 42 }, load);      // load(values) reads the primary
//
// Values are shared by all readers: do not change them. The rules are those of docs/protocol.md, "Simple follower". Needs node-redis 4 or 5.
const { createClient } = require('redis');
const { Lane, now } = require('./lane');
const { laneOf, render, sectionsOf } = require('./names');

const POLL_LIMIT = 3_000;

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

// A command that was sent when its connection ended may never be answered, and neither may a load.
async function within(ms, answer, what) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`${what} did not end within ${ms} ms`)), ms); });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function end(client) {
  try {
    await (client?.destroy ?? client?.disconnect)?.call(client);
  } catch {
    // it had ended
  }
}

class Follower {
  // sections: what freshet schema hash --json prints, for the datasets as the workers have them.
  constructor(url, namespace, sections, { lanes = 1, maxStale = 10_000, poll = 1_000, maxEntries = 100_000, loadTimeout = 30_000, warn = console.warn } = {}) {
    Object.assign(this, { url, sections: sectionsOf(sections), maxStale, poll, loadTimeout, warn });
    const hashes = Object.fromEntries(sections.map(({ dataset, hash }) => [dataset, hash]));
    this.lanes = Array.from({ length: lanes }, (_, n) => new Lane(namespace, n, lanes, hashes, maxEntries / lanes));
  }

  // Begins to follow; until that succeeds, every read loads.
  start() {
    for (const lane of this.lanes) {
      this.#listen(lane);
      this.#watch(lane);
    }
    return this;
  }

  async #listen(lane) {
    for (;;) {
      const channel = this.#client();
      const gap = () => lane.gap();
      channel.on('error', gap);
      channel.on('ready', gap); // subscribed again: node-redis does that by itself
      try {
        await channel.connect();
        await channel.subscribe(`${lane.prefix}ch`, (frame) => lane.message(frame));
        gap();
        await new Promise((lost) => { lane.lost = lost; });
      } catch {
        // polls tell of it
      }
      await end(channel);
      gap();
      await sleep(this.poll);
    }
  }

  // A silent link is given up after five seconds; disableOfflineQueue: an old answer confirms nothing, so none is queued.
  #client() {
    const socket = { connectTimeout: 3_000, socketTimeout: 5_000, reconnectStrategy: (n) => Math.min(50 * 2 ** n, 2_000) };
    return createClient({ url: this.url, pingInterval: 1_000, disableOfflineQueue: true, socket });
  }

  // Returns the cache of a dataset's records by cache.key, or by one of its derived templates.
  cache(dataset, template, { ttl = 600_000 } = {}) {
    const kinds = this.sections[dataset]?.names[template];
    if (!kinds) throw new Error(`cache of dataset ${dataset} by ${template}: sections has no such template; take them from freshet schema hash --json`);
    return {
      // Returns the record with these properties; load(values) reads it from the primary. null and undefined are values like others.
      get: async (values, load) => {
        const name = render(template, kinds, values);
        if (name === null) throw new Error(`get by ${template}: a property is missing, so the record has no such key`);
        return this.read(dataset, name, () => load(values), ttl);
      },
    };
  }

  // Returns why keys are loaded by every read, one sentence for each lane and dataset; empty if all are cached.
  notReady() {
    return this.lanes.flatMap((lane) => lane.notReady(this.maxStale));
  }

  // Returns the entry of a cache key, or what load() gives. Readers of a key share one load.
  read(dataset, name, load, ttl = 600_000) {
    const lane = this.lanes[laneOf(name, this.lanes.length)];
    const began = now();
    const fresh = began - lane.confirm <= this.maxStale && lane.agreed.has(dataset);
    const entry = fresh ? lane.entries.get(name) : undefined;
    if (entry && began < entry.end) return Promise.resolve(entry.value);
    // A mark that still stands began after every invalidation of its key that was received, so its load is as good as one of our own.
    const running = lane.loading.get(name);
    if (running?.value && (fresh || began - running.began <= this.maxStale)) return running.value;
    const mark = { began };
    if (!running) lane.loading.set(name, mark);
    mark.value = this.#load(lane, name, mark, load, fresh && !running, ttl);
    return mark.value;
  }

  async #load(lane, name, mark, load, keep, ttl) {
    try {
      const value = await within(this.loadTimeout, load(), 'load'); // one that hangs must not keep its key from being loaded
      if (keep && lane.loading.get(name) === mark) lane.store(name, value, mark.began + ttl); // not invalidated meanwhile
      return value;
    } finally {
      if (lane.loading.get(name) === mark) lane.loading.delete(name);
    }
  }

  async #watch(lane) {
    let meta = null;
    let why; // the connection failed
    for (let told = ''; ; ) {
      try {
        meta ??= this.#client().on('error', (error) => { why = error; });
        await within(POLL_LIMIT, this.#poll(meta, lane), 'poll');
      } catch (error) {
        why ??= error;
        lane.error = why.message || why.code || String(why); // nothing is confirmed
        await end(meta); // it may lead to a master that was replaced, or never answer
        meta = null;
      }
      why = undefined;
      const tell = lane.notReady(this.maxStale).join('; ');
      if (tell !== told) this.warn(`freshet follower: ${tell || `lane ${lane.prefix} is followed again`}`);
      told = tell;
      await sleep(this.poll);
    }
  }

  async #poll(meta, lane) {
    if (!meta.isOpen) await meta.connect();
    const asked = now();
    const datasets = Object.keys(this.sections);
    const [, [last, lanes, ...hashes]] = await Promise.all([ // sent together, so to one server
      meta.unlink(`${lane.prefix}nothing`), // only a master that takes writes is believed
      meta.hmGet(`${lane.prefix}meta`, ['last', 'lanes', ...datasets.map((dataset) => `d:${dataset}`)]),
    ]);
    const whole = lane.polled(last, lanes, Object.fromEntries(datasets.map((dataset, i) => [dataset, hashes[i]])), asked);
    if (!whole) lane.lost?.(); // subscribe again
  }
}

module.exports = { Follower };
