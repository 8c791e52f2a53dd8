"""One source among several: followed for itself, so that one that fails takes nothing from the others.

The engine's care (`engine/watch.py`) begins where a discovery meets a service. A combination is one discovery to it, so
the little that each of its parts needs stands here: asking again with back-off, and knowing what was said last, and
when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

from svcmesh.core.clock import Clock, heed_cancellation, sleep_until, wait_for
from svcmesh.core.errors import DiscoveryError, SvcmeshError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.uri_parts import Surroundings
from svcmesh.policy.backoff import FullJitter

BACKOFF = FullJitter(base=0.1, cap=5.0)
"""Waits before a source is asked again; as the engine's, for it is the same question."""

_STEADY = 1.0  # seconds that a watch must have lasted for its back-off to begin anew


class Strand:
    """What one source says of one service.

    Attributes:
        said: its last snapshot, or None. error: why it fails, None while it does not. failing_since: the instant.
    """

    def __init__(self, discovery: Discovery, service: str, surroundings: Surroundings, said: Snapshot | None) -> None:
        self.said = said
        self.fresh = False
        self.error: str | None = None
        self.failing_since: float | None = None
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
            wait = BACKOFF.seconds(self._failures, self._rng)
            if isinstance(error, SvcmeshError) and error.retry_after is not None:
                wait = min(BACKOFF.cap, max(wait, error.retry_after))
            if self.error is None:
                self.failing_since = now
            self.error = str(error) if isinstance(error, SvcmeshError) else f"{type(error).__name__}: {error}"
            self._emit("discovery.failed", service=self._service, error=self.error, retry_in=wait)
            changed()
            await sleep_until(self._clock, now + wait)

    async def _watch(self, changed: Callable[[], object]) -> None:
        snapshots = self._discovery.watch(self._service)
        try:
            async for snapshot in snapshots:
                heed_cancellation()
                if not isinstance(snapshot, Snapshot):
                    raise DiscoveryError(f"{type(self._discovery).__name__}.watch yielded {snapshot!r}, no Snapshot")
                failed = self.error is not None
                self.said, self.fresh, self.error, self.failing_since = snapshot, True, None, None
                if failed:
                    self._emit("discovery.recovered", service=self._service)
                changed()
        finally:
            close = getattr(snapshots, "aclose", None)
            if close is not None:
                with suppress(Exception):
                    await close()


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
