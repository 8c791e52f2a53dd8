"""The embedded registry between real processes: seen within a second, gone when killed, never half a file."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.local.scan import Scan

PATIENCE = 30.0
REGISTER = """
import asyncio, random, sys
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.engine.registration import Announcer

async def main(directory, id, address, ttl):
    announcement = Announcement("orders", id, address, ttl=float(ttl))
    registry = LocalRegistry(directory, clock=SYSTEM)
    announcer = Announcer(registry, announcement, clock=SYSTEM, rng=random.Random(1), emit=silent)
    running = asyncio.ensure_future(announcer.run())
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await announcer.leave()
    await running

asyncio.run(main(*sys.argv[1:]))
"""

HAMMER = """
import asyncio, sys
from svcmesh.core.clock import SYSTEM
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry

async def main(directory, me):
    registry = LocalRegistry(directory, clock=SYSTEM)
    until = SYSTEM.now() + 2.0
    turn = 0
    while SYSTEM.now() < until:
        turn += 1
        mine = Announcement("orders", me, f"10.0.0.{me}:1", meta={"pad": "x" * (turn % 7 * 1000)}, ttl=60.0)
        await registry.register(mine)
        await registry.heartbeat(mine)
        if turn % 3 == 0:
            await registry.deregister(mine)
    await registry.register(Announcement("orders", me, f"10.0.0.{me}:1", ttl=60.0))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path):
    """Start a process that registers itself, and leave none behind."""
    running = []

    def started(program, *arguments):
        command = [sys.executable, "-c", program, str(tmp_path / "registry"), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


class Follow:
    """The newest answer of a watch, and a wait for a certain one."""

    def __init__(self, directory):
        self.now = None
        self.all = []
        self.emitted = []
        self.registry = LocalRegistry(
            str(directory), clock=SYSTEM, emit=lambda *args, **fields: self.emitted.append(fields)
        )
        self.task = asyncio.ensure_future(self.go_on())

    async def go_on(self):
        """Watch, and again after a failure; the engine does so, and keeps what is known meanwhile."""
        while True:
            with suppress(DiscoveryError):
                async for snapshot in self.registry.watch("orders"):
                    self.now = {endpoint.address for endpoint in snapshot.endpoints}
                    if self.now not in self.all[-1:]:
                        self.all.append(self.now)
            await asyncio.sleep(0.01)

    async def until(self, wanted):
        """Wait until ``wanted`` is the answer."""
        end = time.monotonic() + PATIENCE
        while self.now != wanted:
            assert time.monotonic() < end, f"{self.now} is not {wanted}"
            await asyncio.sleep(0.01)

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])


async def line(process):
    """Wait for the line that says it is up, without a thread."""
    while process.poll() is None:
        return await asyncio.to_thread(process.stdout.readline)
    return ""


async def test_processes_see_each_other_and_the_killed_vanish_with_their_ttl(tmp_path, start):
    follow = Follow(tmp_path / "registry")
    killed = start(REGISTER, "1", "127.0.0.1:1", "1.0")
    leaving = start(REGISTER, "2", "127.0.0.1:2", "600.0")
    for process in (killed, leaving):
        assert await line(process) == "up\n"
    await follow.until({"127.0.0.1:1", "127.0.0.1:2"})

    killed.send_signal(signal.SIGKILL)
    killed.wait()
    await follow.until({"127.0.0.1:2"})

    leaving.communicate("\n")
    await follow.until(set())
    await follow.stop()
    assert follow.emitted == []


async def test_a_process_that_was_stopped_is_back_when_it_goes_on(tmp_path, start):
    follow = Follow(tmp_path / "registry")
    process = start(REGISTER, "1", "127.0.0.1:1", "1.0")
    assert await line(process) == "up\n"
    await follow.until({"127.0.0.1:1"})

    process.send_signal(signal.SIGSTOP)
    await follow.until(set())
    process.send_signal(signal.SIGCONT)
    await follow.until({"127.0.0.1:1"})
    await follow.stop()


@pytest.mark.parametrize("what", ["file", "service", "registry"])
async def test_what_somebody_deletes_is_never_missed_and_comes_back_with_a_heartbeat(tmp_path, start, what):
    follow = Follow(tmp_path / "registry")
    process = start(REGISTER, "1", "127.0.0.1:1", "9.0")
    assert await line(process) == "up\n"
    await follow.until({"127.0.0.1:1"})
    path = tmp_path / "registry" / "orders" / "1.json"
    {"file": path, "service": path.parent, "registry": path.parent.parent}[what].rename(tmp_path / "gone")
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, "no heartbeat has brought it back"
        await asyncio.sleep(0.01)
    process.communicate("\n")
    await follow.until(set())
    await follow.stop()
    assert follow.all == [set(), {"127.0.0.1:1"}, set()]


async def test_hammering_writers_never_show_half_an_entry(tmp_path, start):
    """Four processes register, heartbeat and leave as fast as they can while two watchers read."""
    follows = [Follow(tmp_path / "registry") for _ in range(2)]
    processes = [start(HAMMER, str(number)) for number in range(1, 5)]
    while any(process.poll() is None for process in processes):  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(0.05)

    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    for follow in follows:
        await follow.until({f"10.0.0.{number}:1" for number in range(1, 5)})
        await follow.stop()
        assert follow.emitted == []


async def test_a_reader_at_full_speed_sees_whole_entries_only(tmp_path, start):
    """The scan itself, not slowed to four looks a second, against a writer in another process."""
    emitted = []
    registry = LocalRegistry(str(tmp_path / "registry"), clock=SYSTEM)
    await registry.register(Announcement("orders", "steady", "10.0.0.9:1", ttl=60.0))
    scan = Scan(str(tmp_path / "registry"), "orders", clock=SYSTEM, emit=lambda *a, **fields: emitted.append(fields))
    process = start(HAMMER, "1")
    looks = 0
    while process.poll() is None:
        found = scan.poll()
        looks += 1
        assert found is None or "10.0.0.9:1" in {endpoint.address for endpoint in found}

    assert process.returncode == 0
    assert looks > 10
    assert emitted == []
