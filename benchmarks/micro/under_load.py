"""Picks while everything changes: ``python -m benchmarks.micro.under_load [--quick]``.

A registry lists 10,000 endpoints and changes ten times a second: each time 100 leave, 100 come and 100 have other
metadata, and every list is made of other objects, as a backend makes them. Changes take the way that all take (watch,
debounce, cluster, new pickers) on the worker of the mesh, in this process and under this GIL. Meanwhile somebody picks:

- ``paced``: 500 times a second, each pick meant for an instant. What counts is the time from that instant until the
  pick is done, so a pick that had to wait makes those behind it late, too.
- ``threads``: from 8 threads as fast as they can, each pick meant for the moment at which the one before it was done.

``p99``, ``p99.9`` and ``longest`` are milliseconds. Python's threads take turns of `sys.getswitchinterval()`; the limit
for p99 and p99.9 is two of these, whatever is picked. With 8 threads that never rest the longest wait is that for
seven others. ``per second`` is what all threads did together, ``changes`` how many changes a second came into force.
`random.choice` and `itertools.cycle` go over a list that never changes, beside the same changes of a service.
`Service.guard` is a whole call of an empty function: pick, counts, deadline.

What the machine and the GIL alone amount to is shown by an empty function beside one thread that computes without a
pause: it waits for a turn, too, and where the machine has other work it waits longer than that. Where that alone is
more than the limit, ``ok`` is left open for those who take up to twice that. A quick run is too short for an exact
p99.9.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.micro.beside import working
from svcmesh import Endpoint, Mesh, Policy, Service, Snapshot
from svcmesh.balance import (
    LeastRequest,
    LoadBalancer,
    Maglev,
    PeakEwma,
    Random,
    RingHash,
    RoundRobin,
    WeightedRoundRobin,
)

ENDPOINTS = 10_000
MOVED = 100
CHANGES = 10.0
RATE = 500.0
THREADS = 8
SECONDS = 10.0
INTERVALS = 2
UNSURE = 2  # times what the machine takes alone
SETTLING = 1.0
SHORT = 1000

Pick = Callable[[], object]
PACED, STORM = "paced", "threads"
PICK, CALL, NOTHING = "Service.pick", "Service.guard", "an empty function"
CALLED = ("RoundRobin", "LeastRequest", "PeakEwma")
"""Those of which a whole call is measured, too."""

BALANCERS: dict[str, LoadBalancer] = {
    "RoundRobin": RoundRobin(),
    "WeightedRoundRobin": WeightedRoundRobin(),
    "Random": Random(),
    "LeastRequest": LeastRequest(),
    "PeakEwma": PeakEwma(),
    "RingHash": RingHash(),
    "Maglev": Maglev(),
}


class Changing:
    """A registry of which everything changes: discovery by two lists in turns."""

    def __init__(self) -> None:
        self._snapshots = [_snapshot(0), _snapshot(1)]

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:  # noqa: ARG002 - there is one
        """Yield a list, and the other one every tenth of a second."""
        began = time.perf_counter()
        for number in itertools.count():
            yield self._snapshots[number % 2]
            await asyncio.sleep(max(0.0, began + (number + 1) / CHANGES - time.perf_counter()))


def _snapshot(number: int) -> Snapshot:
    staying = range(ENDPOINTS - MOVED)
    moving = range(ENDPOINTS + number * MOVED, ENDPOINTS + (number + 1) * MOVED)
    return Snapshot(
        tuple(
            Endpoint(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80", metadata={"version": number if n < MOVED else 0})
            for n in (*staying, *moving)
        )
    )


class Times:
    """How long picks took, millions of them: in whole microseconds up to a thousand, exactly beyond."""

    def __init__(self) -> None:
        self._short = [0] * SHORT
        self._long = array("d")

    def add(self, seconds: float) -> None:
        """Take in one pick."""
        microseconds = int(seconds * 1e6)
        if microseconds < SHORT:
            self._short[microseconds] += 1
        else:
            self._long.append(seconds)

    def __len__(self) -> int:
        return sum(self._short) + len(self._long)

    def at(self, part: float) -> float:
        """Return the milliseconds that this part of the picks took at most, 1 for the longest."""
        left = min(len(self) - 1, int(part * len(self)))
        for microseconds, count in enumerate(self._short):
            left -= count
            if left < 0:
                return microseconds / 1e3
        return sorted(self._long)[left] * 1e3

    def __iadd__(self, other: Times) -> Self:
        self._short = [one + more for one, more in zip(self._short, other._short, strict=True)]
        self._long += other._long
        return self


@dataclass(frozen=True)
class Found:
    """What all picks took, and for how many seconds it went on."""

    times: Times
    seconds: float


def rows(seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Yield two rows for each thing that picks, paced and from threads.

    Keys: way, picker, mode, p99, p99.9, longest, per second, changes, limit, ok (None: the machine takes too long).

    Args:
        seconds: how long each is looked at where it is paced, default 10; threads take three tenths of that, for they
            pick so much more often, but a second at least.
    """
    limit = INTERVALS * sys.getswitchinterval() * 1e3
    machine: dict[str, float] = {}
    for row in _rows(seconds):
        longer = max(row["p99"], row["p99.9"])
        alone = machine.setdefault(row["mode"], longer)  # the first of each mode are those of an empty function
        open_question = alone > limit and longer <= UNSURE * alone
        yield {**row, "limit": limit, "ok": longer <= limit or (None if open_question else False)}


def _rows(seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the rows without a judgement."""
    with working(_empty):  # nothing but the GIL and the machine is in the way
        yield from _measured(NOTHING, "", _empty, lambda: 0, seconds)
    with _changing(LeastRequest()) as (service, changes):
        listed = list(service.endpoints)
        yield from _measured("random.choice", "", lambda: random.choice(listed), changes, seconds)
        yield from _measured("itertools.cycle", "", itertools.cycle(listed).__next__, changes, seconds)
    for name, balancer in BALANCERS.items():
        with _changing(balancer) as (service, changes):
            yield from _measured(PICK, name, _peek(service, balancer), changes, seconds)
            if name in CALLED:
                yield from _measured(CALL, name, service.guard(_empty), changes, seconds)


@contextlib.contextmanager
def _changing(balancer: LoadBalancer) -> Iterator[tuple[Service, Callable[[], int]]]:
    """Give a service that changes all the time, and what counts the changes that came into force."""
    changed = 0

    def count(_: object) -> None:
        nonlocal changed
        changed += 1

    gc.collect()
    with Mesh(Changing(), policy=Policy.standard().replace(load_balancer=balancer)) as mesh:
        service = mesh.service("service")
        mesh.events.subscribe(count, "endpoints.changed")
        service.wait_ready(30)
        service.pick(1)
        time.sleep(SETTLING)
        gc.collect()  # of what the beginning made; collections from here on are part of what is measured
        yield service, lambda: changed


def _keys(balancer: LoadBalancer) -> Callable[[], int | None]:
    """Return what makes the key of each call: one that was not there before, or none."""
    return itertools.count(1).__next__ if getattr(balancer, "affinity", False) else lambda: None


def _peek(service: Service, balancer: LoadBalancer) -> Pick:
    key = _keys(balancer)
    return lambda: service.pick(key())


def _empty() -> None:
    """Do nothing."""


def _measured(
    way: str, picker: str, pick: Pick, changes: Callable[[], int], seconds: float
) -> Iterator[dict[str, Any]]:
    for mode, measure, duration in ((PACED, paced, seconds), (STORM, storm, max(1.0, 0.3 * seconds))):
        before = changes()
        found = measure(pick, duration)
        times = found.times
        yield {
            "way": way,
            "picker": picker,
            "mode": mode,
            "p99": round(times.at(0.99), 3),
            "p99.9": round(times.at(0.999), 3),
            "longest": round(times.at(1.0), 1),
            "per second": round(len(times) / found.seconds),
            "changes": round((changes() - before) / found.seconds, 1),
        }


def paced(pick: Pick, seconds: float) -> Found:
    """Pick at intended times, and say how late each pick was done."""
    times, clock = Times(), time.perf_counter
    began = clock()
    for number in range(int(RATE * seconds)):
        intended = began + number / RATE
        wait = intended - clock()
        if wait > 0:
            time.sleep(wait)
        pick()
        times.add(clock() - intended)
    return Found(times, clock() - began)


def storm(pick: Pick, seconds: float) -> Found:
    """Pick from several threads without a pause, and say how long each pick took."""
    ready = threading.Barrier(THREADS + 1)
    found = [Times() for _ in range(THREADS)]

    def work(times: Times) -> None:
        clock, add = time.perf_counter, times.add
        ready.wait()
        now = clock()
        end = now + seconds
        while now < end:
            pick()
            after = clock()
            add(after - now)
            now = after

    threads = [threading.Thread(target=work, args=(times,)) for times in found]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    times = Times()
    for each in found:
        times += each
    return Found(times, took)


MARKS = {True: "", False: " !", None: " ?"}


def main() -> None:
    """Print the table."""
    for row in rows(2.0 if "--quick" in sys.argv[1:] else SECONDS):
        shown = "".join(f"{row[name]:>11}" for name in ("p99", "p99.9", "longest", "per second", "changes"))
        print(f"{row['way']:17}{row['picker']:20}{row['mode']:9}{shown}{MARKS[row['ok']]}", flush=True)


if __name__ == "__main__":
    main()
