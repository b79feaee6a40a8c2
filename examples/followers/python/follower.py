"""A local cache that follows a Freshet namespace and never serves what is staler than max_stale seconds.

    follower = Follower("redis://127.0.0.1:6379/0", "shop", {"users": "nZ3…"}, lanes=1)   # freshet schema hash
    users = follower.cache("users", "user:{id}")
    follower.start()
    user = users.get({"id": 42}, load)        # load(values) reads the primary

The rules are those of docs/protocol.md, "Simple follower". Needs redis-py 4 or later.
"""
import logging
import threading
import time
import zlib
from concurrent.futures import Future

import redis

from lane import Lane
from names import render

log = logging.getLogger("freshet.follower")


class Follower:
    def __init__(self, url, namespace, sections, lanes=1, max_stale=10.0, poll=1.0, max_entries=100_000):
        """sections: dataset to the hash of its cache section, as the workers have it."""
        self._redis = redis.Redis.from_url(url, decode_responses=True, socket_timeout=3, socket_connect_timeout=3)
        self._sections, self._max_stale, self._poll = dict(sections), max_stale, poll
        self.lanes = [Lane(namespace, n, lanes, self._sections, max_entries // lanes) for n in range(lanes)]

    def start(self):
        for lane in self.lanes:
            for loop in (self._listen, self._watch):
                threading.Thread(target=loop, args=(lane,), daemon=True).start()
        return self

    def cache(self, dataset, template, ttl=600.0):
        """Returns the cache of a dataset's records by cache.key, or by one of its derived templates."""
        if dataset not in self._sections:
            raise ValueError(f"cache of dataset {dataset}: its hash is not in sections; print it with freshet schema hash")
        return Cache(self, dataset, template, ttl)

    def not_ready(self):
        """Returns why keys are loaded by every read, one sentence for each lane and dataset; empty if all are cached."""
        return [why for lane in self.lanes for why in lane.not_ready(self._max_stale)]

    def read(self, dataset, name, load, ttl=600.0):
        """Returns the entry of a cache key, or what load() gives. Readers of a key share one load."""
        lane = self.lanes[zlib.crc32(name.encode()) % len(self.lanes)]
        now = time.monotonic()
        with lane.lock:
            fresh = now - lane.confirm <= self._max_stale and dataset in lane.agreed
            if fresh and name in lane.entries and now < lane.entries[name][1]:
                return lane.entries[name][0]
            # A mark that still stands began after every invalidation of its key that was received, so its load is as good as one of our own.
            mark = lane.loading.get(name)
            joined = mark and mark.thread != threading.get_ident() and (fresh or now - mark.began <= self._max_stale)
            alone = mark and not joined
            if not joined:
                mark = Mark(now)
                if not alone:
                    lane.loading[name] = mark
        return mark.future.result() if joined else self._load(lane, name, mark, load, fresh and not alone, ttl)

    def _load(self, lane, name, mark, load, keep, ttl):
        try:
            value = load()
            with lane.lock:
                if keep and lane.loading.get(name) is mark:  # not invalidated meanwhile
                    lane.store(name, value, mark.began + ttl)
            mark.future.set_result(value)
            return value
        except BaseException as error:
            mark.future.set_exception(error)
            raise
        finally:
            with lane.lock:
                if lane.loading.get(name) is mark:
                    del lane.loading[name]

    def _listen(self, lane):
        while True:
            try:
                with self._redis.pubsub() as channel:
                    channel.subscribe(lane.prefix + "ch")
                    lane.deaf = False
                    while not lane.deaf:
                        got = channel.get_message(timeout=1)
                        if got and got["type"] == "message":
                            lane.message(got["data"])
                        elif got:
                            lane.gap()  # subscribed, perhaps again: redis-py reconnects by itself
            except Exception:  # whatever it was: begin again, with nothing
                time.sleep(0.1)
            lane.gap()

    def _watch(self, lane):
        told = None
        fields = ["last", "lanes", *("d:" + dataset for dataset in self._sections)]
        while True:
            asked = time.monotonic()
            try:
                self._redis.unlink(lane.prefix + "nothing")  # only a master that takes writes is believed
                last, lanes, *hashes = self._redis.hmget(lane.prefix + "meta", fields)
                lane.deaf = not lane.polled(last, lanes, dict(zip(self._sections, hashes)), asked)
            except redis.RedisError as error:
                lane.error = str(error)  # nothing is confirmed meanwhile
            why = lane.not_ready(self._max_stale)
            if why != told and (why or told):
                log.warning("%s", "; ".join(why) or f"lane {lane.prefix} is followed again")
                told = why
            time.sleep(self._poll)


class Cache:
    def __init__(self, follower, dataset, template, ttl):
        self._follower, self._dataset, self._template, self._ttl = follower, dataset, template, ttl

    def get(self, values, load):
        """Returns the record with these properties; load(values) reads it from the primary. None is a value like others."""
        name = render(self._template, values)
        if name is None:
            raise ValueError(f"get by {self._template}: a property is missing, so the record has no such key")
        return self._follower.read(self._dataset, name, lambda: load(values), self._ttl)


class Mark:
    """A load in progress. Whoever invalidates its key removes it, and what it loaded is then stored nowhere."""

    def __init__(self, began):
        self.began, self.thread, self.future = began, threading.get_ident(), Future()
