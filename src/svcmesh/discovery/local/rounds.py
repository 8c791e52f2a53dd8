"""One timer for all watched services of a registry: four times a second, a round over those that somebody awaits.

A look at a quiet service takes four microseconds; a timer and a task that wakes for it would take ten times that, five
per cent of a core when a mesh watches five hundred services.
"""

from __future__ import annotations

import asyncio

from svcmesh.core.clock import Clock, Timer
from svcmesh.core.endpoint import Endpoint
from svcmesh.discovery.local.scan import Scan

POLL = 0.25
"""Seconds between two looks at a service's directory."""


class Rounds:
    """Looks at services, and wakes only those who wait for one that has changed.

    Threads: one loop at a time. On another one (in a forked child) it begins anew.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: Timer | None = None
        self._waiting: dict[Scan, asyncio.Future[tuple[Endpoint, ...]]] = {}

    async def news(self, scan: Scan) -> tuple[Endpoint, ...]:
        """Return the endpoints of ``scan`` as soon as they are others than at its last poll.

        Raises:
            DiscoveryError: as `Scan.poll`.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._waiting = loop, None, {}
        future: asyncio.Future[tuple[Endpoint, ...]] = loop.create_future()
        self._waiting[scan] = future
        if self._timer is None:
            self._set(loop)
        try:
            return await future
        finally:
            self._leave(scan, future)

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = self._clock.call_at(loop, self._clock.now() + POLL, lambda: self._go(loop))

    def _go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at every service that is awaited. What a look raises belongs to who awaits it."""
        self._set(loop)
        for scan, future in self._waiting.items():
            if future.done():
                continue
            try:
                endpoints = scan.poll()
            except Exception as error:  # noqa: BLE001 - the other services must be looked at all the same
                future.set_exception(error)
            else:
                if endpoints is not None:
                    future.set_result(endpoints)

    def _leave(self, scan: Scan, future: asyncio.Future[tuple[Endpoint, ...]]) -> None:
        if self._waiting.get(scan) is future:
            del self._waiting[scan]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
