"""One timer for all waits of a socket on asyncio, instead of one each.

Nearly every wait ends in time. To set a timer for each, and to take it back, is more work than to write a request and
to read its answer. So the timer is left where it stands when a wait has ended: a connection in use has one that rings
once in a few seconds, mostly for nobody. `svcmesh.engine.reaper` does the same for attempts.
"""

from __future__ import annotations

import asyncio
import math


class Alarm:
    """Ends waits that take too long. Its timer holds no socket: that is closed with the connection, or collected.

    Threads: only those of the loop that waits.
    """

    __slots__ = ("_rings", "_timer", "_waits")

    def __init__(self) -> None:
        self._waits: dict[asyncio.Future[bool], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf

    def watch(self, ready: asyncio.Future[bool], loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Settle ``ready`` as late after so many seconds, unless it is forgotten before."""
        self._waits[ready] = until = loop.time() + seconds
        if until < self._rings:
            self._set(loop, until)

    def forget(self, ready: asyncio.Future[bool]) -> None:
        """Watch it no more; harmless where it never was."""
        self._waits.pop(ready, None)

    def _set(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = until
        self._timer = loop.call_at(until, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._rings = None, math.inf
        now = loop.time()
        for ready, until in list(self._waits.items()):
            if until <= now:
                del self._waits[ready]
                settle(ready, False)
        if self._waits:
            self._set(loop, min(self._waits.values()))


def settle(ready: asyncio.Future[bool], in_time: bool) -> None:
    """Tell whoever waits whether it was in time. A result, never an exception: nobody might be left to retrieve one."""
    if not ready.done():
        ready.set_result(in_time)
