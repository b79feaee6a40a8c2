"""Runs the vectors of the protocol and the rules of a follower: vectors.py FOLDER"""
import json
import sys
import threading
import time
import zlib

from follower import Follower
from names import render

failed = 0


def want(name, got, wanted):
    global failed
    if got != wanted:
        failed += 1
        print(f"{name}: got {got!r}, want {wanted!r}")


def vectors(file):
    with open(f"{sys.argv[1]}/{file}", encoding="utf-8") as f:
        return json.load(f)


def made():
    return Follower("redis://127.0.0.1:1/0", "vectors", {"users": "h1"}, max_stale=5)  # never started


def poll(f, last, age=0.0, lanes="1", section="h1"):
    return f.lanes[0].polled(last, lanes, {"users": section}, time.monotonic() - age)


def at(last):
    f = made()
    poll(f, last)
    return f


def put(f, key, ttl=600):
    f.read("users", key, lambda: "old", ttl)


def kept(f, key):
    return f.read("users", key, lambda: "new") == "old"


for vector in vectors("names.json"):
    want("name of " + vector["template"], render(vector["template"], vector["values"]), vector["name"])
for vector in vectors("keys.json"):
    want("crc32 of " + vector["key"], zlib.crc32(vector["key"].encode()), vector["crc32"])
want("a missing property", render("u:{a}", {"a": None}), None)

for vector in vectors("frames.json"):
    if vector.get("strict"):
        continue
    name, payload = vector["name"], vector.get("payload", {})
    f = at(vector.get("last") or vector.get("prev") or "0-0")
    for key in ["other", *payload.get("k", [])]:
        put(f, key)
    f.lanes[0].message(vector["frame"])
    flushed = "error" in vector or not vector["follows"] or bool(payload.get("x") or payload.get("g"))
    want(name, kept(f, "other"), not flushed)
    for key in payload.get("k", []):
        want(name + ": " + key, kept(f, key), False)
    if vector.get("id"):  # the next entry follows this one, and a poll in between gives trust again
        poll(f, vector["id"])
        put(f, "after")
        f.lanes[0].message(vector["id"] + ' 9-9 {"v":1}')
        want(name + ", then the next", kept(f, "after"), True)

for name, frame, stored in [("its key", '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', False),
                            ("another key", '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', True),
                            ("everything", '1-1 2-2 {"v":1,"x":1}', False)]:
    f = at("1-1")

    def load():
        f.lanes[0].message(frame)
        return "old"

    f.read("users", "a", load)
    poll(f, "2-2")
    want("load while " + name + " is invalidated", kept(f, "a"), stored)

# What polls and frames do to an entry that is stored after the first of them and before the others.
FLUSH = '1-1 2-2 {"v":1,"x":1}'
for name, before, after, stored in [
    ("no poll", [], [], False),
    ("a poll", [("1-1",)], [], True),
    ("an old poll", [("1-1", 6)], [], False),
    ("a head that is not received yet", [("1-1", 6), ("2-2",)], [], False),
    ("a head that is received later", [("1-1", 6), ("2-2",), '1-1 2-2 {"v":1}'], [], True),
    ("a head that was received before", [("1-1", 6), '1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}', ("2-2",)], [], True),
    ("a head that is received", [("1-1",)], [("2-2",), '1-1 2-2 {"v":1}', ("2-2",)], True),
    ("a head that is never received", [("1-1",)], [("2-2",), ("2-2",)], False),
    ("the lane is gone", [("1-1",)], [(None,)], False),
    ("another number of lanes", [("1-1", 0, "2")], [], False),
    ("another number of lanes later", [("1-1",)], [("1-1", 0, "2")], False),
    ("another cache section", [("1-1", 0, "1", "h2")], [], False),
    ("another cache section later", [("1-1",)], [("1-1", 0, "1", "h2")], False),
    ("another cache section in between", [("1-1",)], [("1-1", 0, "1", "h2"), ("1-1",)], False),
    ("a flush before the lane was looked at", [("1-1",), FLUSH], [], False),
    ("a flush and a look that was sent before it", [("1-1",), FLUSH, ("2-2", 3)], [], False),
    ("a flush and a look after it", [("1-1",), FLUSH, ("2-2",)], [], True),
]:
    f = made()

    def play(steps):
        for step in steps:
            f.lanes[0].message(step) if isinstance(step, str) else poll(f, *step)

    play(before)
    put(f, "a")
    play(after)
    want(name, kept(f, "a"), stored)

f = at("1-1")
put(f, "a", ttl=0)
want("an entry past its TTL", kept(f, "a"), False)


class Readers:
    """Readers of one key, each on a thread of its own; its loads wait until they are let go."""

    def __init__(self, f, key):
        self.f, self.key, self.loads, self.go, self.entered = f, key, 0, threading.Event(), threading.Semaphore(0)
        self.lock, self.threads, self.got = threading.Lock(), [], []

    def load(self):
        with self.lock:
            self.loads += 1
            number = self.loads
        self.entered.release()
        self.go.wait(10)
        return number

    def read(self, loads):
        t = threading.Thread(target=lambda: self.got.append(self.f.read("users", self.key, self.load)))
        t.start()
        self.threads.append(t)
        if loads:
            self.entered.acquire(timeout=10)

    def end(self):
        self.go.set()
        for t in self.threads:
            t.join(10)


# Readers of a hot key share one load, which is kept although they are many. After an invalidation they begin another, and the first is not kept.
r = Readers(at("1-1"), "hot")
r.read(loads=True)
for _ in range(20):
    r.read(loads=False)
r.end()
want("loads of a hot key", (r.loads, set(r.got)), (1, {1}))
want("the entry of a hot key", r.f.read("users", "hot", lambda: "new"), 1)
r = Readers(at("1-1"), "hot")
r.read(loads=True)
r.f.lanes[0].message('1-1 2-2 {"v":1,"k":["hot"],"n":[1]}')
r.read(loads=True)
r.read(loads=False)
r.end()
want("loads of a key that changes", (r.loads, sorted(r.got)), (2, [1, 2, 2]))
want("the entry of a key that changed", r.f.read("users", "hot", lambda: "new"), 2)

sys.exit(1 if failed else 0)
