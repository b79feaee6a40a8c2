'use strict';
// A local cache that follows a Freshet namespace and never serves what is staler than maxStale milliseconds.
//
//   const follower = new Follower('redis://127.0.0.1:6379/0', 'shop', { users: 'nZ3…' }, { lanes: 1 });   // freshet schema hash
//   const users = follower.cache('users', 'user:{id}');
//   await follower.start();
//   const user = await users.get({ id: 42 }, load);      // load(values) reads the primary
//
// The rules are those of docs/protocol.md, "Simple follower". Needs node-redis 4 or 5.
const { createClient } = require('redis');
const { Lane } = require('./lane');
const { laneOf, render } = require('./names');

const POLL_LIMIT = 3_000;

const LATE = new Error(`no answer within ${POLL_LIMIT} ms`);

// A command that was sent when its connection ended may never be answered, and nothing would be confirmed from then on.
async function within(ms, answer) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(LATE), ms); });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

class Follower {
  // sections: dataset to the hash of its cache section, as the workers have it.
  constructor(url, namespace, sections, { lanes = 1, maxStale = 10_000, poll = 1_000, maxEntries = 100_000, warn = console.warn } = {}) {
    Object.assign(this, { url, sections, maxStale, poll, warn });
    this.lanes = Array.from({ length: lanes }, (_, n) => new Lane(namespace, n, lanes, sections, maxEntries / lanes));
  }

  async start() {
    const channel = this.#client();
    const gap = () => this.lanes.forEach((lane) => lane.gap());
    channel.on('error', gap);
    channel.on('ready', gap); // subscribed again: node-redis does that by itself
    await channel.connect();
    for (const lane of this.lanes) await channel.subscribe(`${lane.prefix}ch`, (frame) => lane.message(frame));
    gap();
    for (const lane of this.lanes) this.#watch(lane);
    return this;
  }

  // A silent link is given up after five seconds; disableOfflineQueue: an old answer confirms nothing, so none is queued.
  #client() {
    const socket = { connectTimeout: 3_000, socketTimeout: 5_000, reconnectStrategy: (n) => Math.min(50 * 2 ** n, 2_000) };
    return createClient({ url: this.url, pingInterval: 1_000, disableOfflineQueue: true, socket });
  }

  // Returns the cache of a dataset's records by cache.key, or by one of its derived templates.
  cache(dataset, template, { ttl = 600_000 } = {}) {
    if (!(dataset in this.sections)) throw new Error(`cache of dataset ${dataset}: its hash is not in sections; print it with freshet schema hash`);
    return {
      // Returns the record with these properties; load(values) reads it from the primary. null and undefined are values like others.
      get: async (values, load) => {
        const name = render(template, values);
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
    const now = performance.now();
    const fresh = now - lane.confirm <= this.maxStale && lane.agreed.has(dataset);
    const entry = fresh ? lane.entries.get(name) : undefined;
    if (entry && now < entry.end) return Promise.resolve(entry.value);
    // A mark that still stands began after every invalidation of its key that was received, so its load is as good as one of our own.
    const running = lane.loading.get(name);
    if (running?.value && (fresh || now - running.began <= this.maxStale)) return running.value;
    const mark = { began: now };
    if (!running) lane.loading.set(name, mark);
    mark.value = this.#load(lane, name, mark, load, fresh && !running, ttl);
    return mark.value;
  }

  async #load(lane, name, mark, load, keep, ttl) {
    try {
      const value = await load();
      if (keep && lane.loading.get(name) === mark) lane.store(name, value, mark.began + ttl); // not invalidated meanwhile
      return value;
    } finally {
      if (lane.loading.get(name) === mark) lane.loading.delete(name);
    }
  }

  async #watch(lane) {
    let meta = null;
    for (let told = ''; ; ) {
      try {
        meta ??= await this.#connected();
        await within(POLL_LIMIT, this.#poll(meta, lane));
      } catch (error) {
        lane.error = error.message; // nothing is confirmed
        if (error === LATE) { // its answers may never come: another connection
          (meta.destroy ?? meta.disconnect).call(meta);
          meta = null;
        }
      }
      const why = lane.notReady(this.maxStale).join('; ');
      if (why !== told) this.warn(`freshet follower: ${why || `lane ${lane.prefix} is followed again`}`);
      told = why;
      await new Promise((wake) => setTimeout(wake, this.poll));
    }
  }

  async #connected() {
    const meta = this.#client();
    meta.on('error', () => {}); // nothing is confirmed meanwhile
    await meta.connect();
    return meta;
  }

  async #poll(meta, lane) {
    const asked = performance.now();
    const datasets = Object.keys(this.sections);
    await meta.unlink(`${lane.prefix}nothing`); // only a master that takes writes is believed
    const [last, lanes, ...hashes] = await meta.hmGet(`${lane.prefix}meta`, ['last', 'lanes', ...datasets.map((dataset) => `d:${dataset}`)]);
    lane.polled(last, lanes, Object.fromEntries(datasets.map((dataset, i) => [dataset, hashes[i]])), asked);
  }
}

module.exports = { Follower };
