"""Whatever happens to a store and to those who watch it, what is followed ends up as what is stored: a law, by chance.

The store is a model of etcd's: revisions, a history that compaction shortens, watches that begin anywhere in it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.clock import SYSTEM
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.etcd.errors import Silent, Unreachable
from svcmesh.discovery.etcd.prefix import Prefix, Surface
from svcmesh.discovery.lines import Server
from svcmesh.discovery.pace import Bucket


def text64(text):
    return base64.b64encode(text.encode()).decode()


class Store:
    """etcd, as far as one prefix is concerned; ``ops`` is what happens to it, one between any two answers."""

    def __init__(self, ops):
        self.members = (Server("http://model"),)
        self.ops, self.leases, self.life = list(ops), 0, 0
        self.idle, self.down = asyncio.Event(), False
        self.begin()

    def begin(self):
        self.revision, self.compacted, self.history, self.items = 1, 0, [], {}

    def happen(self):
        """Let the next thing happen; return it."""
        op = self.ops.pop(0) if self.ops else ("end of the script",)
        for key in ("a/1", op[1]) if op[0] == "put two" else op[1:] if op[0] == "put" else ():
            self.leases += 1
            self.change(key, {"value": text64(str(self.leases)), "lease": str(self.leases)})
        if op[0] == "delete" and op[1] in self.items:
            self.change(op[1], None)
        elif op[0] == "put elsewhere":
            self.revision += 1
        elif op[0] == "compact":
            self.compacted = self.revision
        elif op[0] == "wipe":
            self.begin()
            self.life, self.down = self.life + 1, True
        return op[0]

    def change(self, key, fields):
        self.revision += 1
        kv = {"key": text64(key), "mod_revision": str(self.revision), **(fields or {})}
        self.history.append((self.revision, {"kv": kv} if fields else {"type": "DELETE", "kv": kv}))
        self.items.pop(key, None)
        if fields:
            self.items[key] = kv

    def header(self, **more):
        return {"header": {"cluster_id": "1", "revision": str(self.revision)}, **more}

    def check_up(self):
        if self.down:
            self.down = False
            raise Unreachable("it is being restarted")

    async def ask(self, path, body, *, leader=True):
        self.happen()
        self.check_up()
        kvs = sorted(self.items.values(), key=lambda kv: -int(kv["mod_revision"]))
        found = kvs[: int(body.get("limit", len(kvs)))]
        return json.dumps(self.header(kvs=found, count=str(len(kvs)))).encode()

    async def follow(self, path, body, silence):
        self.happen()
        self.check_up()
        life, after = self.life, int(body["create_request"]["start_revision"]) - 1
        yield self.line(created=True)
        if after < self.compacted:
            yield self.line(canceled=True, compact_revision=str(self.compacted))
            return
        while True:
            told = [event for event in self.history if event[0] > after][:2]  # etcd tells old events in portions
            if told:
                after = told[-1][0]
                yield self.line(events=[event for _, event in told])
            elif not self.ops:
                self.idle.set()
                await asyncio.Event().wait()
            happened = self.happen()
            if self.life != life or happened == "break":
                raise Unreachable("it broke")
            if happened == "end":
                return
            if happened == "silence" and not told:
                raise Silent("nothing happened")
            if happened == "progress" and not told:
                yield self.line()

    def line(self, **more):
        return json.dumps({"result": self.header(**more)}).encode()


async def followed(ops):
    """Follow a store until nothing happens any more; return it, what is known of it, and that by changes alone."""
    store, keys, by_changes = Store(ops), None, {}

    async def follow():
        nonlocal keys
        keys = Prefix(Surface(store, SYSTEM, Random(1), 30.0), b"a/")
        keys._pace = Bucket(SYSTEM, burst=10**6, seconds=1e-9)
        async with aclosing(keys.follow()) as changes:
            async for changed in changes:
                for key in {*by_changes, *keys.items} if changed is None else changed:
                    by_changes.pop(key, None)
                    if key in keys.items:
                        by_changes[key] = keys.items[key]

    while not store.idle.is_set():
        following, idle = asyncio.ensure_future(follow()), asyncio.ensure_future(store.idle.wait())
        await asyncio.wait([following, idle], timeout=30, return_when=asyncio.FIRST_COMPLETED)
        for task in (following, idle):
            task.cancel()
        await asyncio.wait([following, idle])
        if not following.cancelled():
            assert isinstance(following.exception(), DiscoveryError), "as the engine does: it begins anew"
    return store, keys, by_changes


names = st.sampled_from(["a/1", "a/2", "a/3"])
happenings = st.one_of(
    st.tuples(st.sampled_from(["put", "put", "put two", "delete"]), names),
    st.tuples(st.sampled_from(["compact", "wipe", "break", "end", "silence", "progress", "put elsewhere", "nothing"])),
)


@settings(max_examples=200)
@given(st.lists(happenings, max_size=40))
def test_what_is_followed_is_what_is_stored(ops):
    store, keys, by_changes = asyncio.run(followed(ops))

    stored = {key: (int(kv["mod_revision"]), int(kv["lease"])) for key, kv in store.items.items()}
    assert {key.decode(): (item.revision, item.lease) for key, item in keys.items.items()} == stored
    assert by_changes == keys.items
