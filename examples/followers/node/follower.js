'use strict';
// A local cache that follows one Freshet lane and never serves what is staler than maxStale milliseconds.
//
//   const users = await new Follower('redis://127.0.0.1:6379/0', 'shop').start();
//   const user = await users.get('user:42', load);      // load(key) reads the primary
//
// The rules are those of docs/protocol.md, "Simple follower". Needs node-redis 4 or 5.
const { createClient } = require('redis');

class Follower {
  #entries = new Map();
  #loading = new Map();
  #last = null; // newest entry known
  #seen = new Set(); // entries received since the last poll
  #want = null; // head of a poll that was not received yet, and when that poll was sent
  #confirm = -Infinity; // everything up to then was applied

  constructor(url, namespace, { lane = 0, maxStale = 10_000, poll = 1_000, maxEntries = 100_000 } = {}) {
    Object.assign(this, { url, maxStale, poll, maxEntries, prefix: `{fr:${namespace}:${lane}}:` });
  }

  async start() {
    // A silent link is given up after five seconds; disableOfflineQueue: an old answer confirms nothing, so none is queued.
    const common = { url: this.url, pingInterval: 1_000, disableOfflineQueue: true };
    const socket = { connectTimeout: 3_000, socketTimeout: 5_000, reconnectStrategy: (n) => Math.min(50 * 2 ** n, 2_000) };
    const channel = createClient({ ...common, socket });
    channel.on('error', () => this.gap());
    channel.on('ready', () => this.gap()); // subscribed again: node-redis does that by itself
    const meta = createClient({ ...common, socket });
    meta.on('error', () => {}); // nothing is confirmed meanwhile
    await Promise.all([channel.connect(), meta.connect()]);
    await channel.subscribe(`${this.prefix}ch`, (frame) => this.message(frame));
    this.gap();
    this.#watch(meta);
    return this;
  }

  async #watch(meta) {
    for (;;) {
      const asked = performance.now();
      try {
        await meta.unlink(`${this.prefix}nothing`); // only a master that takes writes is believed
        this.head(await meta.hGet(`${this.prefix}meta`, 'last'), asked);
      } catch {
        // nothing is confirmed
      }
      await new Promise((wake) => setTimeout(wake, this.poll));
    }
  }

  async get(key, load) {
    const fresh = performance.now() - this.#confirm <= this.maxStale;
    if (fresh && this.#entries.has(key)) return this.#entries.get(key);
    const mark = {};
    this.#loading.set(key, mark);
    try {
      const value = await load(key);
      if (fresh && this.#loading.get(key) === mark) { // not invalidated meanwhile
        if (this.#entries.size >= this.maxEntries) this.#entries.delete(this.#entries.keys().next().value);
        this.#entries.set(key, value);
      }
      return value;
    } finally {
      this.#loading.delete(key);
    }
  }

  message(frame) {
    const [, prev, id, payload] = /^(\S*) ?(\S*) ?(.*)$/s.exec(frame);
    let change = null;
    try {
      change = JSON.parse(payload);
    } catch {
      // no JSON: unknown
    }
    for (const key of Array.isArray(change?.k) ? change.k : []) {
      this.#entries.delete(key);
      this.#loading.delete(key);
    }
    const known = change?.v === 1 && !('x' in change) && !('g' in change);
    if (!known || prev !== this.#last) this.#flush(id);
    this.#last = id;
    this.#seen.add(id);
    if (this.#want?.head === id) {
      this.#confirm = this.#want.asked;
      this.#want = null;
    }
  }

  // Takes what a poll that was sent at the time asked read.
  head(head, asked) {
    if (head == null) {
      this.#flush(null);
    } else if (head === this.#last || this.#seen.has(head)) {
      this.#confirm = asked;
      this.#want = null;
    } else if (this.#want || this.#last === null) {
      this.#flush(head);
      this.#confirm = asked;
    } else {
      this.#want = { head, asked };
    }
    this.#seen = new Set([this.#last]);
  }

  // Whatever was published until now may be lost.
  gap() {
    this.#flush(null);
  }

  #flush(head) {
    this.#entries.clear();
    this.#loading.clear();
    this.#last = head;
    this.#want = null;
  }
}

module.exports = { Follower };
