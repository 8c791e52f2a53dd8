"""What all clusters of a mesh share: clock, source of chance, events and worker. It knows nothing above it.

The mesh owns the runtime and everything else refers to it, so that a mesh which is dropped without being closed can be
collected, and its worker stopped, although watches are still running.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import SYSTEM, Clock
from svcmesh.core.errors import ConfigError
from svcmesh.engine.cache import Cache
from svcmesh.engine.leftovers import Leftovers
from svcmesh.engine.reaper import Reapers
from svcmesh.engine.worker import Worker
from svcmesh.observe.bus import Events
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import Asker


class Runtime:
    """Clock, rng, events, timers, worker and cache of one mesh.

    Attributes:
        cache: where what is known outlives the process; None: nowhere.
        max_stale: seconds for which what a registry said last is used while it cannot be asked; None: for ever.
        one_table: held on the worker while a table is being built.
        leftovers: what transports know of calls that can never end any more.
        asker: makes what asks the endpoints of a service whether they are well.
    """

    def __init__(self, clock: Clock | None = None, rng: Rng | None = None) -> None:
        self.clock = SYSTEM if clock is None else clock
        self.rng: Rng = random.Random() if rng is None else rng
        self._own_rng = rng is None
        self.listeners_changed: list[Callable[[], object]] = []
        self.events = Events(self.clock, self._on_listeners)
        self.worker = Worker("svcmesh-worker")
        self.reapers = Reapers(self.clock)
        self.leftovers = Leftovers()
        self.cache: Cache | None = None
        self.max_stale: float | None = None
        self.one_table = asyncio.Lock()
        self.asker: Callable[[HealthCheck, str], Asker] = _no_asker
        self.closed = False

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Run ``callback`` on the worker at the instant ``when``; return what cancels it. Threads: any."""
        timer = _WorkerTimer(self.clock, when, callback)
        self.worker.call(timer.start)
        return timer.cancel

    def check_open(self, wanted: str) -> None:
        """Raise RuntimeError when the mesh has been closed; ``wanted`` is what was asked of it."""
        if self.closed:
            raise RuntimeError(f"{wanted} was asked of a mesh that has been closed: ask before, or make another")

    def settle(self) -> None:
        """Count as ended what can never end any more; asked for before anybody looks at the state. Threads: any."""
        self.reapers.forget_closed()
        self.leftovers.settle()

    def close(self) -> None:
        """Stop the worker, without waiting for it; nothing can be started any more."""
        self.closed = True
        self.worker.close()

    def join(self) -> None:
        """Wait until a closed worker has cleaned up and the cache is written; not on the worker's own thread."""
        self.worker.join()
        if self.cache is not None and not self.worker.current:
            self.cache.join()

    def reset_after_fork(self) -> None:
        """Start afresh in a forked child: no thread, no loop's reaper, and chance of its own."""
        self.worker.reset_after_fork()
        self.reapers.reset_after_fork()
        self.events.reset_after_fork()
        self.one_table = asyncio.Lock()
        if self.cache is not None:
            self.cache.reset_after_fork()
        if self._own_rng:
            self.rng = random.Random()  # else all children would pick the same endpoints

    def _on_listeners(self) -> None:
        for tell in list(self.listeners_changed):
            tell()


class _WorkerTimer:
    """A timer that any thread may set and cancel, although only the worker's loop may touch the clock's."""

    def __init__(self, clock: Clock, when: float, callback: Callable[[], object]) -> None:
        self._clock = clock
        self._when = when
        self._callback: Callable[[], object] | None = callback

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._callback is not None:
            self._clock.call_at(loop, self._when, self._ring)

    def cancel(self) -> None:
        self._callback = None

    def _ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


def _no_asker(config: HealthCheck, service: str) -> Asker:
    raise ConfigError(f"health_check of the policy for {service!r}: there are no endpoints to check, {config.asks}")
