"""One source among several: followed for itself, so that one that fails takes nothing from the others.

The engine's care (`engine/watch.py`) begins where a discovery meets a service. A combination is one discovery to it, so
the little that each of its parts needs stands here: asking again with back-off, and knowing what was said last, and
when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random

from svcmesh.core.clock import Clock, sleep_until, wait_for
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.core.told import told
from svcmesh.discovery.base import Discovery, Lag
from svcmesh.discovery.snapshots import snapshots_of
from svcmesh.discovery.uri_parts import Surroundings
from svcmesh.policy.watch_backoff import WATCHES, told_wait

_STEADY = 1.0  # seconds that a watch must have lasted for its back-off to begin anew


class Strand:
    """What one source says of one service.

    Attributes:
        said: its last snapshot, or None. error: why it fails, None while it does not.
        failing_since: the instant of its first failure. failed_at: that of its last; both 0.0 while it does not fail.
        lag: since when ``said`` may be out of date, and why; None: it is not.

    Args:
        before: what an earlier watch has left, whose word counts until there is another one.
    """

    def __init__(
        self, discovery: Discovery, service: str, surroundings: Surroundings, before: Strand | None = None
    ) -> None:
        self.said: Snapshot | None = None if before is None else before.said
        self.lag: Lag | None = None if before is None else before.lag
        self.fresh = False
        self.error: str | None = None
        self.failing_since = self.failed_at = 0.0
        self._discovery = discovery
        self._service = service
        self._emit = surroundings.emit
        self._clock: Clock = surroundings.clock
        self._rng = Random()
        self._failures = 0

    @property
    def settled(self) -> bool:
        """Whether it has answered or failed since it is followed."""
        return self.fresh or self.error is not None

    async def follow(self, changed: Callable[[], object]) -> None:
        """Follow the source until cancelled; ``changed`` is called after each answer and each failure."""
        while True:
            began = self._clock.now()
            try:
                await self._watch(changed)
                error: Exception = DiscoveryError("the watch ended by itself")
            except Exception as caught:  # noqa: BLE001 - a backend may be anybody's code
                error = caught
            now = self._clock.now()
            self._failures = 1 if self.error is None and now - began >= _STEADY else self._failures + 1
            wait = WATCHES.seconds(self._failures, self._rng, answered=self.said is not None, told=told_wait(error))
            if self.error is None:
                self.failing_since = now
            self.failed_at = now
            self.error = told(error)
            if self.said is not None:
                self.lag = Lag(now if self.lag is None else self.lag.since, self.error)
            self._emit("discovery.failed", service=self._service, error=self.error, retry_in=wait)
            changed()
            await sleep_until(self._clock, now + wait)

    async def _watch(self, changed: Callable[[], object]) -> None:
        async with aclosing(snapshots_of(self._discovery, self._service)) as snapshots:
            async for snapshot in snapshots:
                failed = self.error is not None
                self.said, self.fresh, self.error, self.lag = snapshot, True, None, None
                self.failing_since = self.failed_at = 0.0
                if failed:
                    self._emit("discovery.recovered", service=self._service)
                changed()


class News:
    """Wakes one who waits for any strand to change."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._come = False
        self._waiter: asyncio.Future[None] | None = None

    def tell(self) -> None:
        """Something has changed."""
        self._come = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, until: float | None) -> None:
        """Wait for a change since the last wait, or the instant ``until`` (None: no limit)."""
        if not self._come:
            self._waiter = asyncio.get_running_loop().create_future()
            await wait_for(self._clock, self._waiter, until)
        self._come = False


@asynccontextmanager
async def following(strands: Sequence[Strand], news: News) -> AsyncGenerator[None]:
    """Follow all of ``strands`` inside the block."""
    tasks = [asyncio.ensure_future(strand.follow(news.tell)) for strand in strands]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def failure(strands: Sequence[Strand]) -> DiscoveryError:
    """Return what all of them failing amounts to."""
    told = (strand.error or ("no endpoints" if strand.said is not None else "no answer yet") for strand in strands)
    return DiscoveryError(f"of {len(strands)} sources none has endpoints: {'; '.join(told)}")
