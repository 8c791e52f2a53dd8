"""The embedded registry as the engine uses it: register, heartbeat, drain, leave, and watch, in virtual time."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

from svcmesh import Mesh
from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.base import Announcement, Discovery, Registrar
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.testing.sim import run, virtual_clock

ORDERS = Announcement("orders", "o-1", "127.0.0.1:8001", ttl=3.0)


class Watched:
    """A watch that runs beside a test, and what it has yielded."""

    def __init__(self, registry, service):
        self.registry = registry
        self.seen = []
        self.error = None
        self.task = asyncio.ensure_future(self._follow(registry, service))

    async def _follow(self, registry, service):
        try:
            async for snapshot in registry.watch(service):
                assert snapshot.authoritative
                self.seen.append([e.address for e in snapshot.endpoints])
        except DiscoveryError as error:
            self.error = str(error)


def scenario(directory, script, emit=lambda name, service, **fields: None, service="orders"):
    """Run ``script(registry, watched, sleep)`` in virtual time, ``registry`` and ``watched`` as in two processes."""

    async def main():
        clock = virtual_clock()
        registry = LocalRegistry(str(directory), clock=clock, emit=emit)
        watched = Watched(LocalRegistry(str(directory), clock=clock, emit=emit), service)

        async def sleep(seconds):
            await sleep_until(clock, clock.now() + seconds)

        await sleep(0.01)
        await script(registry, watched, sleep)
        watched.task.cancel()
        await asyncio.wait([watched.task])
        return watched

    return run(main())


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "registry"


def test_it_is_discovery_and_registrar(directory):
    registry = LocalRegistry(str(directory), clock=None)

    assert isinstance(registry, Discovery)
    assert isinstance(registry, Registrar)


def test_registering_is_seen_and_so_is_leaving(directory):
    async def script(registry, watched, sleep):
        assert watched.seen == [[]]
        await registry.register(ORDERS)
        await sleep(0.3)
        assert watched.seen[1:] == [["127.0.0.1:8001"]]
        await registry.deregister(ORDERS)
        await sleep(0.3)
        assert watched.seen[2:] == [[]]

        assert [path.name for path in directory.rglob("*.json*")] == [".tmp-o-1.json-left"]
        await sleep(11.0)

    scenario(directory, script)
    assert list(directory.iterdir()) == [], "all have seen it"


def test_draining_is_seen_at_once_and_survives_heartbeats(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(0.3)
        await registry.drain(ORDERS)
        await sleep(0.3)
        assert watched.seen == [[], ["127.0.0.1:8001"], []]
        await registry.heartbeat(ORDERS)
        await sleep(0.3)
        (directory / "orders" / "o-1.json").unlink()
        await registry.heartbeat(ORDERS)
        await sleep(6.0)

    assert len(scenario(directory, script).seen) == 3


def test_without_heartbeats_it_vanishes_when_its_ttl_ends(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(2.5)
        await registry.heartbeat(ORDERS)
        await sleep(2.9)
        assert len(watched.seen) == 2
        await sleep(0.4)

    assert scenario(directory, script).seen == [[], ["127.0.0.1:8001"], []]


def test_a_heartbeat_after_its_ttl_is_seen_at_once(directory):
    """A process that was stopped for longer than its TTL is back within a look of its first heartbeat."""

    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(6.1)  # long enough for watchers to look at nothing but the directory's own time stamp
        assert watched.seen[-1] == []
        await registry.heartbeat(ORDERS)
        await sleep(0.3)
        assert watched.seen[-1] == ["127.0.0.1:8001"]

    scenario(directory, script)


def test_heartbeats_alone_change_nothing_for_hours(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        for _ in range(3600):
            await sleep(1.0)
            await registry.heartbeat(ORDERS)

    assert scenario(directory, script).seen == [[], ["127.0.0.1:8001"]]


def test_a_heartbeat_registers_again_what_was_removed(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(0.3)
        (directory / "orders" / "o-1.json").unlink()
        (directory / "orders").rmdir()
        assert await registry.heartbeat(ORDERS) is True
        assert await registry.heartbeat(ORDERS) is False
        await sleep(6.0)
        assert (directory / "orders" / "o-1.json").exists()

    scenario(directory, script)


def test_who_left_is_gone_at_the_next_look_although_somebody_had_deleted_its_file(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(0.3)
        shutil.rmtree(directory / "orders")
        await sleep(0.3)
        assert watched.seen[1:] == [["127.0.0.1:8001"]]
        await registry.deregister(ORDERS)
        await sleep(0.3)
        assert watched.seen[2:] == [[]]

    scenario(directory, script)


def test_leaving_makes_no_registry(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(0.3)
        shutil.rmtree(directory)
        await registry.deregister(ORDERS)
        await sleep(0.3)

    assert scenario(directory, script).seen == [[], ["127.0.0.1:8001"]]
    assert not directory.exists()


def test_registering_and_leaving_remove_the_tombstones_of_others(directory):
    def left():
        return sorted(path.name for path in directory.rglob(".tmp-*"))

    async def script(registry, watched, sleep):
        watched.task.cancel()  # nobody looks
        others = [Announcement("orders", f"o-{number}", f"a:{number}") for number in (2, 3)]
        for each in (ORDERS, *others):
            await registry.register(each)
        await registry.deregister(ORDERS)
        await sleep(5.1)
        await registry.register(ORDERS)
        assert left() == []
        await registry.deregister(others[0])
        await sleep(5.1)
        await registry.deregister(others[1])
        assert left() == [".tmp-o-3.json-left"]

    scenario(directory, script)


def test_names_and_ids_may_be_anything(directory):
    hostile = Announcement("../../etc", "../\0" + "x" * 1000, "127.0.0.1:1")

    async def script(registry, watched, sleep):
        await registry.register(hostile)
        await sleep(0.3)
        await registry.heartbeat(hostile)

    watched = scenario(directory, script, service="../../etc")
    assert watched.seen == [[], ["127.0.0.1:1"]]
    assert [path.name for path in directory.parent.iterdir()] == ["registry"]


@pytest.mark.parametrize(
    "changes", [{"service": ""}, {"id": ""}, {"id": "x" * 5000}, {"address": "a:0"}, {"ttl": float("nan")}, {"ttl": -1}]
)
def test_what_nobody_could_read_is_refused(directory, changes):
    announcement = Announcement(**{"service": "orders", "id": "1", "address": "a:1", "ttl": 3.0, **changes})

    async def script(registry, watched, sleep):
        with pytest.raises(ConfigError):
            await registry.register(announcement)

    scenario(directory, script)


def test_leaving_does_not_take_a_successor_along(directory):
    """A process that is replaced under the same id leaves its successor in place."""

    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        successor = LocalRegistry(str(directory), clock=virtual_clock())
        await successor.register(Announcement("orders", "o-1", "127.0.0.1:9", ttl=3.0))
        await registry.deregister(ORDERS)
        await sleep(0.3)

    assert scenario(directory, script).seen == [[], ["127.0.0.1:9"]]


def test_two_that_use_one_id_are_told(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await LocalRegistry(str(directory), clock=virtual_clock()).register(ORDERS)
        with pytest.raises(DiscoveryError, match=r"'o-1' of 'orders' was registered again by process .* own"):
            await registry.heartbeat(ORDERS)
        await sleep(3.1)
        await registry.heartbeat(ORDERS)  # the other one is dead: the id is free

    scenario(directory, script)


def test_leaving_twice_or_never_having_come_is_harmless(directory):
    async def script(registry, watched, sleep):
        await registry.deregister(ORDERS)
        await registry.register(ORDERS)
        await registry.deregister(ORDERS)
        await registry.deregister(ORDERS)
        assert [path.name for path in directory.rglob("*.json")] == []
        await registry.register(ORDERS)  # and whoever left may come again
        assert [path.name for path in directory.rglob("*.json")] == ["o-1.json"]

    scenario(directory, script)


def test_a_directory_in_place_of_the_file_is_an_error(directory):
    async def script(registry, watched, sleep):
        (directory / "orders" / "o-1.json" / "x").mkdir(parents=True)
        (directory / "orders").chmod(0o700)
        with pytest.raises(DiscoveryError, match="cannot register"):
            await registry.register(ORDERS)

    scenario(directory, script)


def test_a_fifo_in_place_of_the_file_is_replaced(directory):
    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        (directory / "orders" / "o-1.json").unlink()
        os.mkfifo(directory / "orders" / "o-1.json")
        await registry.heartbeat(ORDERS)
        await sleep(2.0)

    assert scenario(directory, script).seen[-1] == ["127.0.0.1:8001"]


def test_a_registry_that_vanishes_is_an_error_for_watchers_and_comes_back_with_a_heartbeat(directory):
    """Were it made again by the watcher, it would be empty, and every endpoint that still runs would be dropped."""

    async def script(registry, watched, sleep):
        await registry.register(ORDERS)
        await sleep(0.3)
        directory.rename(directory.with_name("gone"))
        await sleep(0.3)
        assert watched.error == f"the registry directory {directory} is gone"
        again = Watched(registry, "orders")
        await sleep(0.3)
        assert again.error == watched.error
        assert not directory.exists()
        await registry.heartbeat(ORDERS)
        back = Watched(registry, "orders")
        await sleep(0.01)
        assert back.seen == [["127.0.0.1:8001"]]
        back.task.cancel()

    assert scenario(directory, script).seen == [[], ["127.0.0.1:8001"]]


@pytest.mark.parametrize("how", ["at once", "file by file"])
def test_whoever_brings_a_lost_registry_back_takes_no_other_away(directory, how):
    """The first heartbeat that finds it gone makes it anew, with one registration in it, perhaps of another service."""
    first, second = ORDERS, Announcement("orders", "o-2", "127.0.0.1:8002", ttl=3.0)
    both = ["127.0.0.1:8001", "127.0.0.1:8002"]

    async def script(registry, watched, sleep):
        await registry.register(first)
        await registry.register(second)
        await sleep(0.3)
        assert watched.seen[-1] == both
        if how == "file by file":
            (directory / "orders" / "o-1.json").unlink()
            await sleep(0.3)
        shutil.rmtree(directory)
        await sleep(20.0)
        await registry.register(Announcement("billing", "b-1", "127.0.0.1:1"))
        again = Watched(watched.registry, "orders")
        await sleep(1.0)
        assert again.seen == [both]
        await registry.heartbeat(second)
        await sleep(1.9)
        await registry.heartbeat(second)
        assert again.seen == [both]
        await sleep(0.4)
        assert again.seen == [both, both[1:]], "of the first nothing was heard for a TTL since"
        again.task.cancel()

    scenario(directory, script)


@pytest.mark.parametrize("path", ["relative", "", "/nul\0"])
def test_the_directory_must_be_a_path(path):
    with pytest.raises(ConfigError, match="absolute"):
        LocalRegistry(path, clock=None)


def test_a_check_that_nobody_would_run_is_refused(directory):
    """Registering goes on in the background, where an instance that is never checked looks like one that is."""
    with (
        Mesh(f"local://{directory}") as mesh,
        pytest.raises(ConfigError, match=r"local:// checks nothing: leave check out"),
    ):
        mesh.register("orders", port=8001, check="/healthz")


def test_an_unsafe_directory_is_refused_when_built(tmp_path):
    tmp_path.chmod(0o755)

    with pytest.raises(ConfigError, match="others may enter"):
        LocalRegistry(str(tmp_path), clock=None)


def test_a_full_or_forbidden_disk_is_a_discovery_error(directory, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    async def script(registry, watched, sleep):
        monkeypatch.setattr("svcmesh.discovery.local.registry.write_atomically", refuse)
        with pytest.raises(DiscoveryError, match=r"cannot register in .*: No space left"):
            await registry.register(ORDERS)

    scenario(directory, script)
