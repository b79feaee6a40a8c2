'use strict';
// What a follower knows of one lane, without any I/O.

const MAX_SEEN = 10_000;
let ahead = -Infinity; // how far the wall clock was ahead of the monotonic one

// Returns monotonic milliseconds that also pass while the machine is suspended, as soon as its wall clock was set right.
function now() {
  ahead = Math.max(ahead, Date.now() - performance.now());
  return performance.now() + ahead;
}

class Lane {
  entries = new Map(); // cache key to {value, end}
  loading = new Map(); // cache key to the mark of its load
  confirm = -Infinity; // everything up to then was applied
  agreed = new Set(); // datasets whose cache section the lane had at the last look
  error = null; // of the last poll
  #last = null; // newest entry known
  #seen = new Set(); // entries received since the last poll
  #want = null; // head of a poll that was not received yet, and when that poll was sent
  #doubt = -Infinity; // the lane may have other cache sections since then
  #exists = false;
  #counted = null;
  #losses = 0; // polls that found that messages got lost, since the last message

  // hashes: dataset to the hash of its cache section.
  constructor(namespace, number, lanes, hashes, maxEntries) {
    Object.assign(this, { prefix: `{fr:${namespace}:${number}}:`, lanes, hashes, maxEntries: Math.max(Math.floor(maxEntries), 1) });
  }

  store(name, value, end) {
    this.entries.delete(name);
    if (this.entries.size >= this.maxEntries) this.entries.delete(this.entries.keys().next().value);
    this.entries.set(name, { value, end });
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
      this.entries.delete(key);
      this.loading.delete(key);
    }
    const known = change?.v === 1 && !('x' in change);
    if (!known) this.#distrust(); // perhaps a flush for other cache sections
    if (!known || 'g' in change || prev !== this.#last) this.#flush(id);
    this.#losses = 0;
    this.#last = id;
    if (this.#seen.size >= MAX_SEEN) this.#seen.clear(); // no poll succeeds; that a head was forgotten costs a flush
    this.#seen.add(id);
    if (this.#want?.last === id) {
      this.confirm = this.#want.asked;
      this.#want = null;
    }
  }

  // Takes what a poll that was sent at the time asked read; false if messages get lost.
  polled(last, lanes, hashes, asked) {
    Object.assign(this, { error: null });
    this.#exists = last != null;
    this.#counted = lanes;
    if (last != null && String(lanes) !== String(this.lanes)) {
      this.#flush(null); // keys belong to other lanes than we believe
      this.#distrust();
      this.confirm = -Infinity;
      return true;
    }
    if (asked > this.#doubt) this.#agree(last == null ? {} : hashes);
    let lost = false;
    if (last == null) {
      this.#flush(null);
    } else if (last === this.#last || this.#seen.has(last)) {
      this.confirm = asked;
      this.#want = null;
    } else if (this.#want || this.#last === null) {
      lost = this.#last !== null;
      this.#flush(last);
      this.confirm = asked;
    } else {
      this.#want = { last, asked };
    }
    this.#seen = new Set([this.#last]);
    this.#losses += Number(lost);
    return !lost;
  }

  // Whatever was published until now may be lost.
  gap() {
    this.#flush(null);
  }

  // Returns why the lane's keys are loaded by every read; empty if they are cached.
  notReady(maxStale) {
    if (this.error) return [`lane ${this.prefix} cannot be read: ${this.error}`];
    if (!this.#exists) return [`lane ${this.prefix} does not exist: start a worker, or correct the namespace or the database number`];
    if (String(this.#counted) !== String(this.lanes)) {
      return [`namespace has ${this.#counted} lanes, the follower was made for ${this.lanes}: give it lanes: ${this.#counted}`];
    }
    if (this.#losses > 1 || now() - this.confirm > maxStale) {
      return [`lane ${this.prefix}: its messages do not arrive: allow the Redis user its channel; workers must not publish sharded`];
    }
    return Object.keys(this.hashes).filter((dataset) => !this.agreed.has(dataset)).map((dataset) => `dataset ${dataset}: its cache section `
      + `differs from that of lane ${this.prefix}: give the hash that freshet schema hash prints, with the templates of that version`);
  }

  #agree(hashes) {
    const agreed = new Set(Object.keys(this.hashes).filter((dataset) => hashes[dataset] === this.hashes[dataset]));
    if ([...agreed].some((dataset) => !this.agreed.has(dataset))) { // keys may have been made otherwise until now
      this.entries.clear();
      this.loading.clear();
    }
    this.agreed = agreed;
  }

  #distrust() {
    this.agreed = new Set();
    this.#doubt = now();
  }

  // For tests.
  get remembered() {
    return this.#seen.size;
  }

  #flush(head) {
    this.entries.clear();
    this.loading.clear();
    this.#last = head;
    this.#want = null;
  }
}

module.exports = { Lane, MAX_SEEN, now };
