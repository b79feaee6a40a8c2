"""Answers reads from stdin through a Follower: {"get": key} gives {"value": …, "hit": true}. What is not held it asks
for with {"load": key}, and reads {"value": …}.

    serve.py redis://127.0.0.1:6379/0 NAMESPACE MAX_STALE POLL
"""
import json
import sys

from follower import Follower


def say(line):
    print(json.dumps(line), flush=True)


def hear():
    return json.loads(sys.stdin.readline() or "null")


def main(url, namespace, max_stale, poll):
    follower = Follower(url, namespace, max_stale=float(max_stale), poll=float(poll)).start()
    while line := hear():
        loaded = []

        def load(key):
            say({"load": key})
            loaded.append(hear()["value"])
            return loaded[0]

        value = follower.get(line["get"], load)
        say({"value": value, "hit": not loaded})


main(*sys.argv[1:])
