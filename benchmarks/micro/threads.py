"""Whether counts and latencies add up: ``python -m benchmarks.micro.threads`` makes a million calls from 16 threads.

Half of the threads block, half run an event loop; calls end well, fail in two ways and are cancelled, all mixed. When
all have ended nothing may be in flight, nothing may be missing from the totals, and what is known of latencies must be
numbers that calls can have had.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from svcmesh import PICKED, Endpoint, Mesh, Policy, Service
from svcmesh.balance import LoadBalancer, PeakEwma

CALLS = 1_000_000
THREADS = 16
SERVERS = [f"127.0.0.1:{port}" for port in range(1, 6)]
LONGEST = 60.0


def rows(calls: int = CALLS) -> Iterator[dict[str, Any]]:
    """Yield one row.

    Keys: calls, threads, in_flight (of all endpoints), lost (starts, ends and failures that nobody counted), sane
    (latencies are numbers that calls can have had), seconds, ok.
    """
    found = storm(calls, PeakEwma())
    in_flight = sum(map(abs, found["in_flight"]))
    lost = sum(abs(found["calls"] - found[which]) for which in ("started", "finished"))
    lost += abs(found["expected_unsuccessful"] - found["unsuccessful"])
    yield {
        "calls": found["calls"],
        "threads": THREADS,
        "in_flight": in_flight,
        "lost": lost,
        "sane": found["sane"],
        "seconds": found["seconds"],
        "ok": found["sane"] and not in_flight and not lost,
    }


def storm(calls: int, balancer: LoadBalancer, threads: int = THREADS) -> dict[str, Any]:
    """Make ``calls`` calls from ``threads`` threads; return what adds up and what does not.

    Keys: calls, started, finished, in_flight, unsuccessful, expected_unsuccessful, seconds, latencies (those of
    PeakEwma, else empty), sane.
    """
    each = calls // threads
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns in the middle of everything
    began = time.perf_counter()
    try:
        with Mesh({"service": SERVERS}, policy=Policy(load_balancer=balancer)) as mesh:
            service = mesh.service("service")
            works = [_blocking if number % 2 else _looping for number in range(threads)]
            workers = [threading.Thread(target=work, args=(service, each)) for work in works]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return {**_sums(service, balancer, each * threads), "seconds": round(time.perf_counter() - began, 2)}
    finally:
        sys.setswitchinterval(interval)


def _sums(service: Service, balancer: LoadBalancer, calls: int) -> dict[str, Any]:
    members = list(service.view.cluster.members.values())
    latencies = [balancer.latency_of(member) for member in members] if isinstance(balancer, PeakEwma) else []
    return {
        "calls": calls,
        "started": sum(member.started for member in members),
        "finished": sum(member.finished for member in members),
        "in_flight": [member.in_flight for member in members],
        "unsuccessful": sum(member.unsuccessful for member in members),
        "expected_unsuccessful": sum(number % 4 in {1, 3} for number in range(calls // THREADS)) * THREADS,
        "latencies": [found.cost for found in latencies],
        "sane": all(0 < found.cost <= LONGEST and math.isfinite(found.level) for found in latencies),
    }


def _blocking(service: Service, calls: int) -> None:
    """Every fourth call is interrupted, every fourth fails; the others end well."""

    @service.guard
    def work(number: int, *, endpoint: Endpoint = PICKED) -> None:  # noqa: ARG001 - it is picked, no more
        if number % 4 == 1:
            raise ConnectionResetError
        if number % 4 == 3:
            raise KeyboardInterrupt

    for number in range(calls):
        with contextlib.suppress(ConnectionResetError, KeyboardInterrupt):
            work(number)


def _looping(service: Service, calls: int) -> None:
    """The same with coroutines, of which every fourth is cancelled while it waits."""

    @service.guard
    async def work(number: int, *, endpoint: Endpoint = PICKED) -> None:  # noqa: ARG001 - as above
        if number % 4 == 1:
            raise ConnectionResetError
        if number % 4 == 3:
            await asyncio.sleep(LONGEST)

    async def run() -> None:
        for number in range(calls):
            if number % 4 == 3:
                task = asyncio.ensure_future(work(number))
                await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            else:
                with contextlib.suppress(ConnectionResetError):
                    await work(number)

    asyncio.run(run())


def main() -> None:
    """Print what adds up."""
    for row in rows():
        for name, value in row.items():
            print(f"{name:12}{value}")
        if not row["ok"]:
            raise SystemExit("it does not add up")


if __name__ == "__main__":
    main()
