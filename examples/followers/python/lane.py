"""What a follower knows of one lane, without any I/O."""
import json
import threading
import time


MAX_SEEN = 10_000
_ahead = float("-inf")  # how far the wall clock was ahead of the monotonic one


def now():
    """Returns monotonic seconds that also pass while the machine is suspended, as soon as its wall clock was set right."""
    global _ahead
    _ahead = max(_ahead, time.time() - time.monotonic())
    return time.monotonic() + _ahead


class Lane:
    def __init__(self, namespace, number, lanes, sections, max_entries):
        self.prefix = "{fr:%s:%d}:" % (namespace, number)
        self.lock = threading.RLock()  # guards all below
        self.entries, self.loading = {}, {}  # cache key to (value, end), and to the mark of its load
        self.confirm = float("-inf")  # everything up to then was applied
        self.agreed = set()  # datasets whose cache section the lane had at the last look
        self.deaf = False  # messages got lost: subscribe again
        self.error = None  # of the last poll
        self._lanes, self._sections, self._max_entries = lanes, sections, max(max_entries, 1)
        self._exists, self._counted = False, None
        self._losses = 0  # polls that found that messages got lost, since the last message
        self._last, self._seen = None, set()  # newest entry known; those received since the last poll
        self._want = None  # (head, time) of a poll whose head was not received yet
        self._doubt = float("-inf")  # the lane may have other cache sections since then

    def store(self, name, value, end):
        self.entries.pop(name, None)
        if len(self.entries) >= self._max_entries:
            del self.entries[next(iter(self.entries))]
        self.entries[name] = (value, end)

    def message(self, frame):
        prev, id_, payload = (frame.split(" ", 2) + ["", ""])[:3]
        try:
            change = json.loads(payload)
            known = change["v"] == 1 and "x" not in change
            tagged, keys = "g" in change, [key for key in change.get("k", []) if isinstance(key, str)]
        except (ValueError, TypeError, KeyError):
            known, tagged, keys = False, False, []
        with self.lock:
            for key in keys:
                self.entries.pop(key, None)
                self.loading.pop(key, None)
            if not known:
                self._distrust()  # perhaps a flush for other cache sections
            if not known or tagged or prev != self._last:
                self._flush(id_)
            self._losses = 0
            self._last = id_
            if len(self._seen) >= MAX_SEEN:  # no poll succeeds; that a head was forgotten costs a flush
                self._seen.clear()
            self._seen.add(id_)
            if self._want and self._want[0] == id_:
                self.confirm, self._want = self._want[1], None

    def polled(self, last, lanes, hashes, asked):
        """Takes what a poll that was sent at the time asked read; False if messages get lost."""
        with self.lock:
            self.error, self._exists, self._counted = None, last is not None, lanes
            if last is not None and str(lanes) != str(self._lanes):
                self._flush(None)  # keys belong to other lanes than we believe
                self._distrust()
                self.confirm = float("-inf")
                return True
            if asked > self._doubt:
                self._agree({d for d, h in self._sections.items() if last is not None and hashes.get(d) == h})
            lost = False
            if last is None:
                self._flush(None)
            elif last == self._last or last in self._seen:
                self.confirm, self._want = asked, None
            elif self._want or self._last is None:
                lost = self._last is not None
                self._flush(last)
                self.confirm = asked
            else:
                self._want = (last, asked)
            self._seen = {self._last}
            self._losses += lost
            return not lost

    def gap(self):
        """Whatever was published until now may be lost."""
        with self.lock:
            self._flush(None)

    def not_ready(self, max_stale):
        with self.lock:
            if self.error is not None:
                return [f"lane {self.prefix} cannot be read: {self.error}"]
            if not self._exists:
                return [f"lane {self.prefix} does not exist: start a worker, or correct the namespace or the database number"]
            if str(self._counted) != str(self._lanes):
                return [f"namespace has {self._counted} lanes, the follower was made for {self._lanes}: give it lanes={self._counted}"]
            if self._losses > 1 or now() - self.confirm > max_stale:
                return [f"lane {self.prefix}: its messages do not arrive: allow the Redis user its channel; workers must not publish sharded"]
            return [f"dataset {d}: its cache section differs from that of lane {self.prefix}: give the hash that freshet schema hash prints,"
                    " with the templates of that version" for d in sorted(set(self._sections) - self.agreed)]

    def _agree(self, agreed):
        if agreed - self.agreed:  # keys may have been made otherwise until now
            self.entries.clear()
            self.loading.clear()
        self.agreed = agreed

    def _distrust(self):
        self.agreed, self._doubt = set(), now()

    def _flush(self, head):
        self.entries.clear()
        self.loading.clear()
        self._last, self._want = head, None
