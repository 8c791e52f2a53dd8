"""What a snapshot of 10,000 endpoints costs, and whom it keeps waiting: ``python -m benchmarks.micro.snapshots``.

`benchmarks.wire.registries` says what is measured; here is what needs no registry, but only its answers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import cycle
from typing import Any

from benchmarks.micro import answers
from benchmarks.micro.beside import working
from benchmarks.micro.under_load import Times
from svcmesh import Mesh, Policy, Snapshot
from svcmesh.core import address
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.debounce import Debouncer, DebounceTimes
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View

ENDPOINTS = 10_000
ROUNDS = 15
SECONDS = 10.0
EVERY = 0.5
LIMIT = 1.0
FIRST, LATER = "first snapshot", "later snapshot"
PROTOBUF = "xDS, protobuf"


class InForce:
    """A service whose snapshots are put in force as they come."""

    def __init__(self, read: answers.Read, loop: asyncio.AbstractEventLoop) -> None:
        runtime = Runtime()
        self._cluster = Cluster(answers.SERVICE, runtime)
        self._view = View(self._cluster, Policy.standard())
        self._read = read
        at_once = DebounceTimes(quiet=0.0)
        self._debouncer = Debouncer(self._cluster.apply, _broken, clock=runtime.clock, loop=loop, times=at_once)

    def take(self, body: bytes) -> None:
        """Read an answer, and put what it says in force."""
        snapshot = self._read(body)
        assert snapshot is not None, "it is news"
        self._debouncer.offer(snapshot)

    def check(self, version: int) -> None:
        """Make sure that calls go by the answer of this version."""
        assert len(self._cluster.members) == ENDPOINTS
        assert self._view.choose() is not None
        told = [str(one.endpoint.metadata) for one in self._cluster.members.values()]
        assert sum(f"v{version}" in one for one in told) == (ENDPOINTS, answers.CHANGED)[version]


def _broken(error: Exception) -> None:
    raise error


def costs(rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield two rows for each form of an answer. Keys: what, registry, value, worst, unit, limit, ok.

    Args:
        rounds: how often each is measured; the median counts.
    """
    loop = asyncio.new_event_loop()
    for name, form in answers.FORMS.items():
        ratios: dict[str, list[float]] = {FIRST: [], LATER: []}
        bodies = [form.answer(ENDPOINTS, version) for version in (0, 1)]
        plain = [answers.rest(ENDPOINTS, version) for version in (0, 1)] if name == PROTOBUF else bodies
        for _ in range(rounds):
            address._parse.cache_clear()  # noqa: SLF001 - the addresses of a first snapshot are new
            service = InForce(form.reader(), loop)
            for version, what in enumerate(ratios):
                alone = _cpu(lambda: json.loads(plain[version]))  # noqa: B023 - called at once
                whole = _cpu(lambda: service.take(bodies[version]))  # noqa: B023 - called at once
                service.check(version)
                ratios[what].append(whole / alone - (0 if name == PROTOBUF else 1))
        for what, found in ratios.items():
            ratio = statistics.median(found)
            yield row(what, name, ratio, max(found), "x json.loads", LIMIT, 2)
    loop.close()


def row(
    what: str,
    registry: str,
    value: float | None,
    worst: float | None,
    unit: str,
    limit: float | None = None,
    digits: int = 1,
) -> dict[str, Any]:
    """Return a row; it is ``ok`` unless there is a limit that the value exceeds, and neither way without a value."""
    return {
        "what": what,
        "registry": registry,
        "value": None if value is None else round(value, digits),
        "worst": None if worst is None else round(worst, digits),
        "unit": unit,
        "limit": limit,
        "ok": None if value is None else limit is None or value <= limit,
    }


def _cpu(call: Callable[[], object]) -> float:
    """Return the seconds on the processor of a call; the garbage that it makes is its own."""
    gc.collect()
    began = time.process_time()
    call()
    return time.process_time() - began


class Answering:
    """Consul's answers, read one after the other on the loop of the mesh, as its backend reads them."""

    def __init__(self, bodies: list[bytes]) -> None:
        self._bodies = bodies

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:  # noqa: ARG002 - there is one
        """Yield what an answer says, and what the other one says, in turns."""
        read = answers.FORMS["Consul"].reader()
        for body in cycle(self._bodies):
            snapshot = read(body)
            assert snapshot is not None, "it is news"
            yield snapshot
            await asyncio.sleep(EVERY)


def stalls(seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Yield how long callers wait while snapshots come, as the rows of `costs`; the value is what 99.9 % wait at most.

    Args:
        seconds: for how long each is observed.
    """
    bodies = [answers.consul(ENDPOINTS, version) for version in (0, 1)]
    with working(lambda: json.loads(bodies[0]), EVERY):
        yield _waits("stall, json.loads alone", _nothing, seconds)
    with Mesh(Answering(bodies)) as mesh:
        service = mesh.service(answers.SERVICE)
        service.wait_ready(60)
        yield _waits("stall of Service.pick", service.pick, seconds)
        yield _waits("stall of Service.guard", service.guard(_nothing), seconds)


def _nothing() -> None:
    """Do nothing."""


def _waits(what: str, call: Callable[[], object], seconds: float) -> dict[str, Any]:
    times, clock = Times(), time.perf_counter
    now = clock()
    end = now + seconds
    while now < end:
        call()
        after = clock()
        times.add(after - now)
        now = after
    return row(what, "Consul", times.at(0.999), times.at(1.0), "ms", digits=3)


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    for one in costs(5 if quick else ROUNDS):
        print(*one.values(), sep="\t", flush=True)
    for one in stalls(2.0 if quick else SECONDS):
        print(*one.values(), sep="\t", flush=True)
