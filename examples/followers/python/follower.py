"""A local cache that follows one Freshet lane and never serves what is staler than max_stale seconds.

    users = Follower("redis://127.0.0.1:6379/0", "shop").start()
    user = users.get("user:42", load)        # load(key) reads the primary

The rules are those of docs/protocol.md, "Simple follower". Needs redis-py 4 or later.
"""
import json
import threading
import time

import redis


class Follower:
    def __init__(self, url, namespace, lane=0, max_stale=10.0, poll=1.0, max_entries=100_000):
        prefix = "{fr:%s:%d}:" % (namespace, lane)
        self._channel, self._meta, self._nothing = prefix + "ch", prefix + "meta", prefix + "nothing"
        self._redis = redis.Redis.from_url(url, decode_responses=True, socket_timeout=3, socket_connect_timeout=3)
        self._max_stale, self._poll, self._max_entries = max_stale, poll, max_entries
        self._lock = threading.Lock()  # guards all below
        self._entries, self._loading = {}, {}
        self._last, self._seen = None, set()  # newest entry known; those received since the last poll
        self._want = None  # (head, time) of a poll whose head was not received yet
        self._confirm = float("-inf")  # everything up to then was applied
        self._deaf = False

    def start(self):
        for loop in (self._listen, self._watch):
            threading.Thread(target=loop, daemon=True).start()
        return self

    def get(self, key, load):
        with self._lock:
            fresh = time.monotonic() - self._confirm <= self._max_stale
            if fresh and key in self._entries:
                return self._entries[key]
            mark = self._loading[key] = object()
        try:
            value = load(key)
            with self._lock:
                if fresh and self._loading.get(key) is mark:  # not invalidated meanwhile
                    if len(self._entries) >= self._max_entries:
                        del self._entries[next(iter(self._entries))]
                    self._entries[key] = value
            return value
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def message(self, frame):
        prev, id_, payload = (frame.split(" ", 2) + ["", ""])[:3]
        try:
            change = json.loads(payload)
            known = change["v"] == 1 and "x" not in change and "g" not in change
            keys = change.get("k", [])
        except (ValueError, TypeError, KeyError):
            known, keys = False, []
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._loading.pop(key, None)
            if not known or prev != self._last:
                self._flush(id_)
            self._last = id_
            self._seen.add(id_)
            if self._want and self._want[0] == id_:
                self._confirm, self._want = self._want[1], None

    def head(self, head, asked):
        """Takes what a poll that was sent at the time asked read; False if messages get lost."""
        with self._lock:
            lost = False
            if head is None:
                self._flush(None)
            elif head == self._last or head in self._seen:
                self._confirm, self._want = asked, None
            elif self._want or self._last is None:
                lost = self._last is not None
                self._flush(head)
                self._confirm = asked
            else:
                self._want = (head, asked)
            self._seen = {self._last}
            return not lost

    def gap(self):
        """Whatever was published until now may be lost."""
        with self._lock:
            self._flush(None)

    def _flush(self, head):
        self._entries.clear()
        self._loading.clear()
        self._last, self._want = head, None

    def _listen(self):
        while True:
            try:
                with self._redis.pubsub() as channel:
                    channel.subscribe(self._channel)
                    self._deaf = False
                    while not self._deaf:
                        got = channel.get_message(timeout=1)
                        if got and got["type"] == "message":
                            self.message(got["data"])
                        elif got:
                            self.gap()  # subscribed, perhaps again: redis-py reconnects by itself
            except Exception:  # whatever it was: begin anew, with nothing
                time.sleep(0.1)
            self.gap()

    def _watch(self):
        while True:
            asked = time.monotonic()
            try:
                self._redis.unlink(self._nothing)  # only a master that takes writes is believed
                self._deaf = not self.head(self._redis.hget(self._meta, "last"), asked)
            except redis.RedisError:
                pass  # nothing is confirmed meanwhile
            time.sleep(self._poll)
