"""A service whose endpoints are asked for their health in virtual time, on the loop of the test."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from svcmesh.core.clock import sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import HealthCheck, Policy
from svcmesh.policy.health.finding import Unwell
from svcmesh.testing.sim import run, virtual_clock

SILENT, NO = Unwell("no answer"), Unwell("HTTP 500", answered=True)
REFUSED = Unwell("connection refused", refusing=True)
A, B, C = (Endpoint(f"10.0.0.{n}:80") for n in (1, 2, 3))


def check(**fields: Any) -> HealthCheck:
    """Return a check without chance; what it asks is up to the `Asked`."""
    return HealthCheck(**{"custom_health_check": print, "interval_jitter_percent": 0, **fields})


class Asked:
    """Answers for the endpoints.

    Attributes:
        says: how each ends from now on: an error, or None for well. degraded: those that say so of themselves.
        takes: seconds that it takes.
        asked: the instants at which each was asked. most: how many were under way at once. forgotten: those it closed.
    """

    def __init__(self) -> None:
        self.says: dict[Endpoint, BaseException | None] = {}
        self.degraded: set[Endpoint] = set()
        self.takes: dict[Endpoint, float] = {}
        self.asked: dict[Endpoint, list[float]] = defaultdict(list)
        self.under_way = self.most = 0
        self.forgotten: list[Endpoint] = []
        self.closed = False

    async def ask(self, endpoint: Endpoint) -> bool:
        clock = virtual_clock()
        self.asked[endpoint].append(round(clock.now(), 6))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await sleep_until(clock, clock.now() + self.takes.get(endpoint, 0.0))
        finally:
            self.under_way -= 1
        error = self.says.get(endpoint)
        if error is not None:
            raise error
        return endpoint in self.degraded

    def forget(self, endpoint: Endpoint) -> None:
        self.forgotten.append(endpoint)

    def close(self) -> None:
        self.closed = True


class LoopAsWorker:
    """Does on the loop of the test what the worker does on its own."""

    current = False

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: list[asyncio.Task[Any]] = []

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(self.loop.create_task(coroutine))
        return self.tasks[-1]

    def call(self, callback: Callable[[asyncio.AbstractEventLoop], object]) -> bool:
        self.loop.call_soon(callback, self.loop)
        return True


class Stage:
    """One service under one policy.

    Attributes:
        asked: who answers. events: what was told, as (instant, name, address, reason).
    """

    def __init__(self, policy: Policy, *endpoints: Endpoint, seed: int = 1) -> None:
        self.clock = virtual_clock()
        self.asked = Asked()
        self.runtime = Runtime(self.clock, random.Random(seed))
        self.runtime.worker.close()
        self.worker: Any = LoopAsWorker()
        self.runtime.worker = self.worker
        self.runtime.asker = lambda config, service: self.asked
        self.cluster = Cluster("orders", self.runtime)
        self.events: list[tuple[float, str, str, str | None]] = []
        self.runtime.events.subscribe(self._hear, "endpoint.*", "panic.*", "health_check.*")
        self.set(*endpoints)
        self.view = View(self.cluster, policy)

    def _hear(self, event: Any) -> None:
        endpoint = getattr(event, "endpoint", None)
        where = "" if endpoint is None else endpoint.address
        self.events.append((round(event.time, 6), event.name, where, getattr(event, "reason", None)))

    def told(self, *names: str) -> list[tuple[float, str, str, str | None]]:
        """Return the events of these names."""
        return [event for event in self.events if event[1] in names]

    def set(self, *endpoints: Endpoint) -> None:
        """Let discovery list these."""
        self.cluster.apply(Snapshot(endpoints, authoritative=True))

    def begin(self) -> None:
        """Do what the first call does: there is traffic, and checks begin."""
        self.call_once()
        self.cluster.health.start()

    def call_once(self) -> None:
        """Make a call that ends at once."""
        member = next(iter(self.cluster.members.values()))
        member.started += 1
        member.finished += 1

    async def until(self, instant: float) -> None:
        """Let time pass."""
        await sleep_until(self.clock, instant)

    def called(self, picks: int = 200) -> set[str]:
        """Return who would be called."""
        found = (self.view.picker.choose_from(None, ()) for _ in range(picks))
        return {cell.endpoint.address for cell in found if cell is not None}

    async def end(self) -> None:
        """End what runs, as a closed mesh does."""
        for task in self.worker.tasks:
            task.cancel()
        await asyncio.gather(*self.worker.tasks, return_exceptions=True)


def staged(main: Callable[..., Coroutine[Any, Any, None]], policy: Policy, *endpoints: Endpoint, seed: int = 1) -> None:
    """Run ``main`` with a stage, in virtual time, and see that its end leaves nothing open."""

    async def whole() -> None:
        stage = Stage(policy, *endpoints, seed=seed)
        await main(stage)
        await stage.end()
        assert stage.asked.under_way == 0
        assert stage.asked.closed or not stage.worker.tasks

    run(whole())
