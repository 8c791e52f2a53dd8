"""Following a prefix of a real etcd: nothing is lost between list and watch, nor by a compaction, nor read twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from random import Random

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.discovery.etcd.address import Access
from svcmesh.discovery.etcd.client import Client
from svcmesh.discovery.etcd.errors import Broken, Denied
from svcmesh.discovery.etcd.prefix import Prefix, Surface
from svcmesh.discovery.lines import Server
from tests.servers.bad_etcd import BadEtcd, respond
from tests.servers.consul_agent import until as poll
from tests.servers.etcd_process import Etcd


class Asked(Client):
    """A client that remembers what it was asked, and what it was told."""

    def __init__(self, address):
        super().__init__(Access((Server(f"http://{address}"),)), SYSTEM)
        self.lists, self.checks, self.watches, self.lines = 0, 0, [], []

    async def ask(self, path, body, **how):
        self.checks += "limit" in body
        self.lists += "limit" not in body
        return await super().ask(path, body, **how)

    async def follow(self, path, body, silence):
        self.watches.append(int(body["create_request"]["start_revision"]))
        async with aclosing(super().follow(path, body, silence)) as lines:
            async for line in lines:
                self.lines.append(json.loads(line)["result"])
                yield line


def followed(address, prefix, wait=30.0):
    client = Asked(address)
    return client, Prefix(Surface(client, SYSTEM, Random(1), wait), prefix.encode())


def beneath(keys):
    return {key.decode(): item.value.decode() for key, item in keys.items.items()}


async def until(done):
    await asyncio.to_thread(poll, done)


async def test_what_happens_between_list_and_watch_is_not_lost(etcd, name):
    client, keys = followed(etcd.address, f"{name}/")
    etcd.put(f"{name}/a", "1")
    async with client.open(), aclosing(keys.follow()) as changes:
        assert await anext(changes) is None
        etcd.put(f"{name}/b", "2")
        etcd.delete(f"{name}/a")
        changed = set(await anext(changes))
        while changed != {f"{name}/a".encode(), f"{name}/b".encode()}:
            changed |= await anext(changes)
        assert beneath(keys) == {f"{name}/b": "2"}
    assert client.lists == 1


async def test_a_compaction_behind_the_watch_is_a_new_list(etcd, name):
    client, keys = followed(etcd.address, f"{name}/")
    etcd.put(f"{name}/a", "1")
    async with client.open(), aclosing(keys.follow()) as changes:
        await anext(changes)
        etcd.delete(f"{name}/a")
        etcd.put(f"{name}/b", "2")
        etcd.compact()
        assert await anext(changes) is None
        assert beneath(keys) == {f"{name}/b": "2"}
        assert any(int(line.get("compact_revision", 0)) > 0 for line in client.lines), "etcd said that it forgot"
        etcd.put(f"{name}/c", "3")
        assert await anext(changes) == {f"{name}/c".encode()}
    assert (client.lists, client.checks) == (2, 1)


async def test_a_compaction_that_hid_nothing_of_ours_is_no_new_list(etcd, name):
    client, keys = followed(etcd.address, f"{name}/")
    async with client.open(), aclosing(keys.follow()) as changes:
        await anext(changes)
        for number in range(3):
            etcd.put(f"other-{name}", str(number))
        etcd.compact()
        following = asyncio.ensure_future(anext(changes))
        await until(lambda: len(client.watches) == 2)
        etcd.put(f"{name}/a", "1")
        assert await following == {f"{name}/a".encode()}
    assert (client.lists, client.checks) == (1, 1)


async def test_progress_moves_the_revision_on(etcd, name):
    """So that a watch which breaks is resumed at what etcd still has."""
    client, keys = followed(etcd.address, f"{name}/")
    async with client.open(), aclosing(keys.follow()) as changes:
        await anext(changes)
        following = asyncio.ensure_future(anext(changes))
        await until(lambda: client.lines)
        elsewhere = etcd.put(f"other-{name}", "1")
        await until(lambda: keys.revision >= elsewhere)
        assert (client.checks, len(client.watches)) == (0, 1)
        following.cancel()
        await asyncio.wait([following])


async def test_a_silent_watch_is_checked_and_goes_on(tmp_path_factory, name):
    """By an etcd whose progress is told every ten minutes, which is the usual."""
    with Etcd(tmp_path_factory.mktemp("quiet")) as etcd:
        client, keys = followed(etcd.address, f"{name}/", wait=1.0)
        async with client.open(), aclosing(keys.follow()) as changes:
            await anext(changes)
            following = asyncio.ensure_future(anext(changes))
            elsewhere = etcd.put(f"other-{name}", "1")
            await until(lambda: client.watches[-1:] > [elsewhere])
            assert client.lists == 1
            etcd.put(f"{name}/a", "1")
            await following
            assert beneath(keys) == {f"{name}/a": "1"}


@pytest.mark.parametrize("leased", [False, True])
async def test_a_store_that_was_wiped_and_has_the_same_revisions_is_another(tmp_path, leased):
    """As in a test environment that is started anew: who registers in the same order is given the same revisions."""
    with Etcd(tmp_path) as etcd:
        put(etcd, "a/old", "1", leased)
        client, keys = followed(etcd.address, "a/", wait=1.0)
        async with client.open(), aclosing(keys.follow()) as changes:
            await anext(changes)
            etcd.kill()
            etcd.wipe()
            etcd.start()
            put(etcd, "a/old" if leased else "a/new", "2", leased)
            assert await anext(changes) is None
            assert beneath(keys) == {"a/old" if leased else "a/new": "2"}
            assert keys.revision == 2


def put(etcd, key, value, leased):
    etcd.put(key, value, **({"lease": etcd.ask("lease/grant", TTL=60)["ID"]} if leased else {}))


# -- by something that is no good etcd -----------------------------------------------------------------------------

HEADER = {"cluster_id": "1", "revision": "5"}


async def first_error(watch, listing=None):
    """Follow a prefix of something that lists ``listing`` and watches as ``watch``; return what that raises."""

    def answer(path, _):
        return watch if path == "/v3/watch" else respond(listing or {"header": HEADER})

    with BadEtcd(answer) as bad:
        client, keys = followed(bad.address, "a/")
        async with client.open(), aclosing(keys.follow()) as changes:
            await anext(changes)
            try:
                async with asyncio.timeout(10):
                    while True:
                        await anext(changes)
            except Exception as error:  # noqa: BLE001 - which one it is is asked for
                return error
    return None


def lines(*results):
    return respond(
        b"".join(json.dumps({"result": {"header": HEADER, **result}}).encode() + b"\n" for result in results)
    )


async def test_a_watch_that_is_refused_is_an_error():
    reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    error = await first_error(lines({"created": True, "canceled": True, "cancel_reason": reason}))
    assert type(error) is Denied


async def test_a_watch_that_never_begins_is_an_error():
    for nothing in (
        respond(b""),
        lines({"canceled": True}),
        respond({"error": {"grpc_code": 14, "message": "no leader"}}),
    ):
        assert type(await first_error(nothing)) is Broken


async def test_a_watch_that_ends_again_and_again_is_no_busy_loop():
    """A proxy that cuts streams costs a list every two seconds, and no more."""
    with BadEtcd(
        lambda path, _: lines({"created": True}) if path == "/v3/watch" else respond({"header": HEADER})
    ) as bad:
        client, keys = followed(bad.address, "a/")
        async with client.open(), aclosing(keys.follow()) as changes:
            began = SYSTEM.now()
            while client.lists < 5:
                await anext(changes)
            assert SYSTEM.now() - began > 1.5  # the first, three more at once, and the next when two seconds are over


@pytest.mark.parametrize("header", [{"cluster_id": "2", "revision": "9"}, {"cluster_id": "1", "revision": "4"}])
async def test_another_store_is_listed_again(header):
    """Restored from a backup, or another cluster at the same address: what was known of revisions means nothing."""

    def answer(path, body):
        if path == "/v3/watch":
            return lines({"header": header, "created": True})
        kv = {"key": "YS9i", "value": "", "mod_revision": "2"}
        return respond({"header": HEADER} if not client.lists or client.lists == 1 else {"header": header, "kvs": [kv]})

    with BadEtcd(answer) as bad:
        client, keys = followed(bad.address, "a/")
        async with client.open(), aclosing(keys.follow()) as changes:
            await anext(changes)
            client.lists += 1
            assert await anext(changes) is None
            assert beneath(keys) == {"a/b": ""}
