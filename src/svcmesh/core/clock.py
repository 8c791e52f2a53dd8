"""Time as a parameter: everything that waits, counts or expires asks a `Clock`, never the `time` module.

With the system's clock that costs one C call. With a virtual one the same code runs in tests and simulations
without sleeping, so that a minute of back-off takes no time and always ends in the same order.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from threading import Event
from typing import Any, Protocol
from weakref import WeakSet

from svcmesh.core.loop import running_loop


class Timer(Protocol):
    """What `Clock.call_at` returns: a call that is still to come."""

    def cancel(self) -> object:
        """Forget the call; harmless when it has been made already."""


class Clock(Protocol):
    """A monotonic clock and the three ways to wait for it. Instants and durations are float seconds."""

    def now(self) -> float:
        """Return the current instant; it never goes back. Threads: any."""

    def wait(self, event: Event, until: float | None) -> bool:
        """Block until ``event`` is set or the instant ``until`` (None: no limit); return whether it is set."""

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` on ``loop`` at the instant ``when``. Call it from the thread of that loop."""


LONGEST = threading.TIMEOUT_MAX / 2
"""Seconds that a wait takes at most: some hundred years. Beyond, threads and loops overflow."""


class SystemClock:
    """The machine's monotonic clock. Nobody can set it back, and it is the same in every process."""

    now = staticmethod(time.monotonic)

    def wait(self, event: Event, until: float | None) -> bool:
        """Block until ``event`` is set or ``until`` has come; return whether the event is set."""
        return event.wait(None if until is None else min(max(0.0, until - time.monotonic()), LONGEST))

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` on ``loop`` at ``when``."""
        return loop.call_later(min(max(0.0, when - time.monotonic()), LONGEST), callback)


SYSTEM = SystemClock()

virtual_clocks: WeakSet[Clock] = WeakSet()
"""Clocks other than the system's that live in this process; an ambient deadline runs on each of them."""


async def sleep_until(clock: Clock, when: float) -> None:
    """Suspend the current task until the instant ``when`` of ``clock``."""
    await wait_for(clock, running_loop().create_future(), when)


def heed_cancellation() -> None:
    """End the current task if it has been asked to end: somebody's code may have kept that from it.

    Raises:
        asyncio.CancelledError: it has.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        raise asyncio.CancelledError


async def wait_for(clock: Clock, future: asyncio.Future[Any], until: float | None) -> bool:
    """Suspend until ``future`` is done or ``until`` has come; return whether it is done. It is never cancelled."""
    loop = running_loop()
    reached = loop.create_future()

    def wake(_: object = None) -> None:
        if not reached.done():
            reached.set_result(None)

    future.add_done_callback(wake)
    timer = None if until is None else clock.call_at(loop, until, wake)
    try:
        await reached
    finally:
        future.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
    return future.done()
