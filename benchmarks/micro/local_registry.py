"""What the embedded registry costs with two hundred registrations: ``python -m benchmarks.micro.local_registry``.

The files are those of one service in a temporary directory; a process of its own heartbeats all of them every third of
their TTL. ``look`` is one poll of a watcher while nothing has come or gone, ``scan`` one that asks every file for its
time stamp, ``first`` one that reads them all. ``idle`` is the share of a core that a watcher needs, and ``services``
that of five hundred watchers of services which nobody has registered.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.local.scan import Scan

REGISTRATIONS = 200
SERVICES = 500
TTL = 10.0


def rows(seconds: float = 10.0) -> Iterator[dict[str, Any]]:
    """Yield one row for each thing that is measured. Keys: what, value, unit.

    Args:
        seconds: for how long each watcher is observed; default 10.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.micro.local_registry", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very module
            assert process.stdout is not None
            process.stdout.readline()
            yield from _operations(directory)
            yield _row("idle", asyncio.run(_watching(directory, ["orders"], seconds)) * 100, "% of a core")
            names = [f"service-{number}" for number in range(SERVICES)]
            yield _row("services", asyncio.run(_watching(directory, names, seconds)) * 100, "% of a core")
            process.kill()


def _operations(directory: str) -> Iterator[dict[str, Any]]:
    scan = Scan(directory, "orders", clock=SYSTEM, emit=silent)
    yield _row("first", _fastest(scan.poll, 1) * 1e3, "ms")
    yield _row("scan", _fastest(lambda: scan._read_all(SYSTEM.now()), 50) * 1e3, "ms")  # noqa: SLF001 - a part of poll
    for what, seconds in asyncio.run(_writing(directory)).items():
        yield _row(what, seconds * 1e6, "µs")
    time.sleep(3.0)  # until the directory counts as quiet
    scan.poll()
    yield _row("look", _fastest(scan.poll, 20) * 1e6, "µs")


async def _writing(directory: str) -> dict[str, float]:
    registry = LocalRegistry(directory, clock=SYSTEM)
    mine = Announcement("mine", "1", "127.0.0.1:1")
    found = {"register": 1.0, "heartbeat": 1.0}
    for _ in range(50):
        began = time.perf_counter()
        await registry.register(mine)
        registered = time.perf_counter()
        await registry.heartbeat(mine)
        found["heartbeat"] = min(found["heartbeat"], time.perf_counter() - registered)
        found["register"] = min(found["register"], registered - began)
    await registry.deregister(mine)
    return found


async def _watching(directory: str, services: list[str], seconds: float) -> float:
    """Return the share of a core that watching ``services`` takes once nothing is new."""
    registry = LocalRegistry(directory, clock=SYSTEM)

    async def follow(service: str) -> None:
        async for _ in registry.watch(service):
            pass

    tasks = [asyncio.ensure_future(follow(service)) for service in services]
    await asyncio.sleep(3.0)
    began, used = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - used) / (time.monotonic() - began)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return share


async def _heartbeats(directory: str) -> None:
    registry = LocalRegistry(directory, clock=SYSTEM)
    mine = [Announcement("orders", str(n), f"10.0.{n // 200}.{n % 200 + 1}:80", ttl=TTL) for n in range(REGISTRATIONS)]
    for announcement in mine:
        await registry.register(announcement)
    print("ready", flush=True)
    while True:
        for announcement in mine:
            await registry.heartbeat(announcement)
            await asyncio.sleep(TTL / 3 / REGISTRATIONS)


def _fastest(call: Any, times: int) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def _row(what: str, value: float, unit: str) -> dict[str, Any]:
    return {"what": what, "value": round(value, 3), "unit": unit}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_heartbeats(str(Path(sys.argv[1]))))
    for row in rows():
        print(f"{row['what']:<10} {row['value']:>10.3f} {row['unit']}")
