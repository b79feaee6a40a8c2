"""A local cache that follows a Freshet namespace and never serves what is staler than max_stale seconds.

    sections = json.load(open("sections.json"))                # freshet schema hash --json > sections.json
    follower = Follower("redis://127.0.0.1:6379/0", "shop", sections, lanes=1)
    users = follower.cache("users", "user:{id}")
    follower.start()
    user = users.get({"id": 42}, load)        # load(values) reads the primary

Values are shared by all readers: do not change them. Start a follower after a fork, never before. The rules are those of docs/protocol.md, "Simple follower". Needs redis-py 4 or later.
"""
import logging
import threading
import time
import zlib
from concurrent.futures import CancelledError, Future, TimeoutError

import redis

from lane import Lane, now
from names import render, sections_of

log = logging.getLogger("freshet.follower")


class Follower:
    def __init__(self, url, namespace, sections, lanes=1, max_stale=10.0, poll=1.0, max_entries=100_000, load_timeout=30.0):
        """sections: what freshet schema hash --json prints, for the datasets as the workers have them."""
        self._redis = redis.Redis.from_url(url, decode_responses=True, socket_timeout=3, socket_connect_timeout=3)
        self._sections, self._max_stale, self._poll, self._load_timeout = sections_of(sections), max_stale, poll, load_timeout
        hashes = {dataset: section["hash"] for dataset, section in self._sections.items()}
        self.lanes = [Lane(namespace, n, lanes, hashes, max_entries // lanes) for n in range(lanes)]

    def start(self):
        for lane in self.lanes:
            for loop in (self._listen, self._watch):
                threading.Thread(target=loop, args=(lane,), daemon=True).start()
        return self

    def cache(self, dataset, template, ttl=600.0):
        """Returns the cache of a dataset's records by cache.key, or by one of its derived templates."""
        if template not in self._sections.get(dataset, {"names": ()})["names"]:
            raise ValueError(f"cache of dataset {dataset} by {template}: sections has no such template; take them from freshet schema hash --json")
        return Cache(self, dataset, template, self._sections[dataset]["names"][template], ttl)

    def not_ready(self):
        """Returns why keys are loaded by every read, one sentence for each lane and dataset; empty if all are cached."""
        return [why for lane in self.lanes for why in lane.not_ready(self._max_stale)]

    def read(self, dataset, name, load, ttl=600.0):
        """Returns the entry of a cache key, or what load() gives. Readers of a key share one load."""
        lane = self.lanes[zlib.crc32(name.encode()) % len(self.lanes)]
        while True:
            began = now()
            with lane.lock:
                fresh = began - lane.confirm <= self._max_stale and dataset in lane.agreed
                if fresh and name in lane.entries and began < lane.entries[name][1]:
                    return lane.entries[name][0]
                # A mark that still stands began after every invalidation of its key that was received, so its load is as good as one of our own.
                mark = lane.loading.get(name)
                if mark and began - mark.began > self._load_timeout:
                    mark = None  # its load hangs: it must not keep its key from being loaded
                joined = mark and mark.thread != threading.get_ident() and (fresh or began - mark.began <= self._max_stale)
                alone = mark and not joined
                if not joined:
                    mark = Mark(began)
                    if not alone:
                        lane.loading[name] = mark
            if not joined:
                return self._load(lane, name, mark, load, fresh and not alone, ttl)
            try:
                return mark.future.result(max(mark.began + self._load_timeout - began, 0))
            except CancelledError:
                pass  # its reader was stopped, not its load
            except TimeoutError:
                if mark.future.done():
                    raise  # the load's own

    def _load(self, lane, name, mark, load, keep, ttl):
        def end():
            if lane.loading.get(name) is mark:
                del lane.loading[name]

        try:
            value = load()
            with lane.lock:
                if keep and lane.loading.get(name) is mark:  # not invalidated meanwhile
                    lane.store(name, value, mark.began + ttl)
                end()
            mark.future.set_result(value)
            return value
        except BaseException as error:
            with lane.lock:
                end()
            if isinstance(error, Exception):
                mark.future.set_exception(error)
            else:
                mark.future.cancel()  # of this reader alone: it is told to stop
            raise

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
                time.sleep(self._poll)
            lane.gap()

    def _watch(self, lane):
        told = None
        fields = ["last", "lanes", *("d:" + dataset for dataset in self._sections)]
        while True:
            asked = now()
            try:
                with self._redis.pipeline(transaction=False) as pipe:  # one connection, so one server, for both
                    pipe.unlink(lane.prefix + "nothing").hmget(lane.prefix + "meta", fields)  # only a master that takes writes is believed
                    _, (last, lanes, *hashes) = pipe.execute()
                lane.deaf = not lane.polled(last, lanes, dict(zip(self._sections, hashes)), asked)
            except Exception as error:  # nothing is confirmed meanwhile
                lane.error = str(error) or repr(error)
                self._redis.connection_pool.disconnect(inuse_connections=False)  # it may lead to a master that was replaced
            why = lane.not_ready(self._max_stale)
            if why != told and (why or told):
                log.warning("%s", "; ".join(why) or f"lane {lane.prefix} is followed again")
                told = why
            time.sleep(self._poll)


class Cache:
    def __init__(self, follower, dataset, template, kinds, ttl):
        self._follower, self._dataset, self._template, self._kinds, self._ttl = follower, dataset, template, kinds, ttl

    def get(self, values, load):
        """Returns the record with these properties; load(values) reads it from the primary. None is a value like others."""
        name = render(self._template, self._kinds, values)
        if name is None:
            raise ValueError(f"get by {self._template}: a property is missing, so the record has no such key")
        return self._follower.read(self._dataset, name, lambda: load(values), self._ttl)


class Mark:
    """A load in progress. Whoever invalidates its key removes it, and what it loaded is then stored nowhere."""

    def __init__(self, began):
        self.began, self.thread, self.future = began, threading.get_ident(), Future()
