"""Runs the frame vectors of the protocol, and the guard of a load: vectors.py FRAMES.json"""
import json
import sys
import time

from follower import Follower

failed = 0


def want(name, got, wanted):
    global failed
    if got != wanted:
        failed += 1
        print(f"{name}: got {got!r}, want {wanted!r}")


def at(last):
    f = Follower("redis://127.0.0.1:1/0", "vectors")  # never started
    f.head(last, time.monotonic())
    return f


def kept(f, key):
    return f.get(key, lambda _: "new") == "old"


for vector in json.load(open(sys.argv[1], encoding="utf-8")):
    if vector.get("strict"):
        continue
    name, payload = vector["name"], vector.get("payload", {})
    f = at(vector.get("last") or vector.get("prev") or "0-0")
    for key in ["other", *payload.get("k", [])]:
        f.get(key, lambda _: "old")
    f.message(vector["frame"])
    flushed = "error" in vector or not vector["follows"] or bool(payload.get("x") or payload.get("g"))
    want(name, kept(f, "other"), not flushed)
    for key in payload.get("k", []):
        want(name + ": " + key, kept(f, key), False)
    if vector.get("id"):  # the next entry follows this one
        f.get("after", lambda _: "old")
        f.message(vector["id"] + ' 9-9 {"v":1}')
        want(name + ", then the next", kept(f, "after"), True)

for name, frame, stored in [("its key", '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', False),
                            ("another key", '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', True),
                            ("a flush", '1-1 2-2 {"v":1,"x":1}', False)]:
    f = at("1-1")

    def load(_):
        f.message(frame)
        return "old"

    f.get("a", load)
    want("load while " + name + " is invalidated", kept(f, "a"), stored)

# What polls and frames do to an entry that is stored after the first of them and before the others.
for name, before, after, stored in [
    ("no poll", [], [], False),
    ("a poll", [("1-1", 0)], [], True),
    ("an old poll", [("1-1", 6)], [], False),
    ("a head that is not received yet", [("1-1", 6), ("2-2", 0)], [], False),
    ("a head that is received later", [("1-1", 6), ("2-2", 0), '1-1 2-2 {"v":1}'], [], True),
    ("a head that was received before", [("1-1", 6), '1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}', ("2-2", 0)], [], True),
    ("a head that is received", [("1-1", 0)], [("2-2", 0), '1-1 2-2 {"v":1}', ("2-2", 0)], True),
    ("a head that is never received", [("1-1", 0)], [("2-2", 0), ("2-2", 0)], False),
    ("the lane is gone", [("1-1", 0)], [(None, 0)], False),
]:
    f = Follower("redis://127.0.0.1:1/0", "vectors", max_stale=5)

    def play(steps):
        for step in steps:
            f.message(step) if isinstance(step, str) else f.head(step[0], time.monotonic() - step[1])

    play(before)
    f.get("a", lambda _: "old")
    play(after)
    want(name, kept(f, "a"), stored)

sys.exit(1 if failed else 0)
