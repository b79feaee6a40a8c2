"""Answers reads from stdin through a Follower: {"get": values} gives {"value": …, "hit": true}. What is not held it asks
for with {"load": values}, and reads {"value": …}. {"get": null} tells why it is not ready.

    serve.py redis://127.0.0.1:6379/0 NAMESPACE MAX_STALE POLL LANES SECTIONS DATASET TEMPLATE TTL
"""
import json
import sys

from follower import Follower


def say(line):
    print(json.dumps(line), flush=True)


def hear():
    return json.loads(sys.stdin.readline() or "null")


def main(url, namespace, max_stale, poll, lanes, sections, dataset, template, ttl):
    follower = Follower(url, namespace, json.loads(sections), lanes=int(lanes), max_stale=float(max_stale), poll=float(poll)).start()
    cache = follower.cache(dataset, template, ttl=float(ttl))
    while line := hear():
        if line["get"] is None:
            say({"why": "; ".join(follower.not_ready())})
            continue
        loaded = []

        def load(values):
            say({"load": values})
            loaded.append(hear().get("value"))
            return loaded[0]

        value = cache.get(line["get"], load)
        say({"value": value, "hit": not loaded})


main(*sys.argv[1:])
