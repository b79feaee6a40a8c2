"""Runs the vectors of the protocol and the rules of a follower: vectors.py FOLDER"""
import json
import sys
import threading
import time
import zlib

from follower import Follower
from lane import MAX_SEEN, now
from names import render, sections_of

failed = 0


def want(name, got, wanted):
    global failed
    if got != wanted:
        failed += 1
        print(f"{name}: got {got!r}, want {wanted!r}")


def vectors(file):
    with open(f"{sys.argv[1]}/{file}", encoding="utf-8") as f:
        return json.load(f)


SECTIONS = [{"dataset": "users", "hash": "h1", "names": {"user:{id}": {"id": "integer"}}}]


def made(**more):
    return Follower("redis://127.0.0.1:1/0", "vectors", SECTIONS, max_stale=5, **more)  # never started


def poll(f, last, age=0.0, lanes="1", section="h1"):
    return f.lanes[0].polled(last, lanes, {"users": section}, now() - age)


def at(last, **more):
    f = made(**more)
    poll(f, last)
    return f


def put(f, key, ttl=600):
    f.read("users", key, lambda: "old", ttl)


def kept(f, key):
    return f.read("users", key, lambda: "new") == "old"


def kinds_of(values):
    return {p: {bool: "boolean", int: "integer", str: "string"}[type(v)] for p, v in values.items()}


def fails(what):
    try:
        what()
        return False
    except ValueError:
        return True


for vector in vectors("names.json"):
    want("name of " + vector["template"], render(vector["template"], kinds_of(vector["values"]), vector["values"]), vector["name"])
for vector in vectors("spellings.json"):
    want("spelling " + str(vector["values"]), fails(lambda: render(vector["template"], vector["kinds"], vector["values"])), True)
want("a half character", fails(lambda: render("u:{a}", {"a": "string"}, {"a": "\ud83d"})), True)
want("an integer as text", render("u:{a}", {"a": "integer"}, {"a": "-42"}), "u:-42")
want("another template", fails(lambda: made().cache("users", "users:{id}")), True)
for nothing in [None, "", "-"]:
    want(f"the hash {nothing!r}", fails(lambda: sections_of([{"dataset": "users", "hash": nothing, "names": {}}])), True)
for vector in vectors("keys.json"):
    want("crc32 of " + vector["key"], zlib.crc32(vector["key"].encode()), vector["crc32"])
want("a missing property", render("u:{a}", {"a": "string"}, {"a": None}), None)

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

f = at("1-1")
put(f, "a")
wall, time.time = time.time, lambda: wall() + 3600  # as after a suspension, once the clock was set
want("an entry from before the machine was suspended", kept(f, "a"), False)
time.time = wall

f = made()
for i in range(MAX_SEEN + 10):  # no poll succeeds
    f.lanes[0].message(f'{i}-1 {i + 1}-1 {{"v":1}}')
want("entries remembered without polls", len(f.lanes[0]._seen) <= MAX_SEEN, True)

f = at("1-1")
for head in ["2-2", "3-3", "4-4", "5-5"]:
    poll(f, head)
want("messages that never arrive are reported", "do not arrive" in "".join(f.not_ready()), True)


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

# A load that hangs keeps its key neither from its readers nor from being kept.
r = Readers(at("1-1", load_timeout=0.2), "hangs")
r.read(loads=True)
joined = threading.Thread(target=lambda: r.got.append(r.f.read("users", "hangs", lambda: "new")))
joined.start()
joined.join(10)
want("a reader behind a load that hangs", r.got, ["new"])
want("the entry of a key whose load hung", r.f.read("users", "hangs", lambda: "later"), "new")
r.end()
want("the entry once that load ends", r.f.read("users", "hangs", lambda: "later"), "new")


# A reader that is stopped, and its load with it, stops no other.
class Stopped(BaseException):
    pass


def stopped():
    entered.set()
    stop.wait(10)
    raise Stopped


def first():
    try:
        f.read("users", "a", stopped)
    except Stopped:
        pass


f, entered, stop, got = at("1-1"), threading.Event(), threading.Event(), []
threads = [threading.Thread(target=first), threading.Thread(target=lambda: got.append(f.read("users", "a", lambda: "new")))]
threads[0].start()
entered.wait(10)
threads[1].start()
stop.set()
for t in threads:
    t.join(10)
want("a reader beside one that was stopped", got, ["new"])

sys.exit(1 if failed else 0)
