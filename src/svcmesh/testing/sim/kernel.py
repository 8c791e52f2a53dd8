"""The virtual-time kernel: a heap of things to do, and a clock that jumps from one to the next.

Everything virtual in svcmesh stands on this one heap: `FakeClock` puts a lock around it, `VirtualLoop` lets an
asyncio loop jump along it, and a simulation runs it bare, because a million calls must take seconds and not
minutes. Things due at one instant happen in the order in which they were asked for, so that a run can be repeated
exactly: asyncio's own heap does not promise that.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from threading import Event

from svcmesh.core.clock import virtual_clocks
from svcmesh.core.errors import ConfigError

Callback = Callable[[], object]


class DeadlockError(RuntimeError):
    """Virtual time cannot go on: something waits, and nothing is scheduled that could end the wait."""


class Scheduled:
    """A call that is still to come; `cancel` forgets it. ``callback`` is None once made or cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made already."""
        self.callback = None


class Kernel:
    """A discrete-event simulation, and the `Clock` of whatever runs in it.

    Args:
        start: the instant at which it begins, in seconds.

    Invariant: time never goes back, and equal instants run in order of registration.

    Threads: one; `FakeClock` is the kernel for several.

    Cost: about a microsecond an event, whatever number of them waits (a binary heap, compared in C). A cancelled
    event leaves the heap when its instant comes.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._heap: list[tuple[float, int, Scheduled]] = []
        self._order = count()
        virtual_clocks.add(self)

    def __repr__(self) -> str:
        """Show the instant and how much is waiting."""
        return f"<{type(self).__name__} at {self._now:g} s, {len(self._heap)} scheduled>"

    def now(self) -> float:
        """Return the current virtual instant in seconds."""
        return self._now

    def at(self, when: float, callback: Callback) -> Scheduled:
        """Call ``callback`` at the instant ``when``; an instant that has passed means as soon as possible.

        Raises:
            ConfigError: ``when`` is NaN.
        """
        if not when >= self._now:
            if when != when:  # noqa: PLR0124 - only NaN differs from itself, and one in the heap would disorder it
                raise ConfigError("when must be an instant in seconds, not nan")
            when = self._now
        scheduled = Scheduled(callback)
        heappush(self._heap, (when, next(self._order), scheduled))
        return scheduled

    def after(self, seconds: float, callback: Callback) -> Scheduled:
        """Call ``callback`` when ``seconds`` have passed."""
        return self.at(self._now + seconds, callback)

    def next_at(self) -> float | None:
        """Return the instant of the next event, or None when nothing is scheduled."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heappop(heap)
        return heap[0][0] if heap else None

    def step(self, limit: float = inf) -> bool:
        """Jump to the next event and make its call; return whether there was one up to the instant ``limit``."""
        callback = self._take(limit)
        if callback is None:
            return False
        callback()
        return True

    def run(self, until: float | None = None) -> None:
        """Make every call that is due up to ``until`` (None: until nothing is left), and end at that instant."""
        limit = inf if until is None else until
        take = self._take
        while (callback := take(limit)) is not None:
            callback()
        if until is not None:
            self._reach(until)

    def wait(self, event: Event, until: float | None) -> bool:
        """Run the simulation until ``event`` is set or ``until`` has come; return whether it is set.

        Raises:
            DeadlockError: no limit was given, the event is not set, and nothing is scheduled that could set it.
        """
        limit = inf if until is None else until
        while not event.is_set():
            if not self.step(limit):
                if until is None:
                    raise DeadlockError("a wait without limit for an event that nothing scheduled will set")
                self._reach(until)
                break
        return event.is_set()

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callback) -> LoopTimer:
        """Run ``callback`` on ``loop``, in the present context, at the instant ``when``."""
        timer = LoopTimer(self._hand_over, loop, callback)
        timer.scheduled = self.at(when, timer.fire)
        return timer

    def _take(self, limit: float) -> Callback | None:
        """Take the next event up to ``limit`` from the heap and jump to its instant."""
        heap = self._heap
        while heap and heap[0][0] <= limit:
            when, _, scheduled = heappop(heap)
            callback = scheduled.callback
            if callback is not None:
                scheduled.callback = None
                if when > self._now:  # noqa: PLR1730 - max() costs as much as the rest of this function
                    self._now = when  # it is not later when an instant was given twice
                return callback
        return None

    def _reach(self, instant: float) -> None:
        self._now = max(self._now, instant)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, run: Callback, context: contextvars.Context) -> None:
        """Give a due call to its loop; one whose loop has been closed has nobody left to want it."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(run, context=context)


HandOver = Callable[[asyncio.AbstractEventLoop, Callback, contextvars.Context], None]


class LoopTimer:
    """A call that is to be made on an asyncio loop; it can be cancelled until the very moment it runs."""

    __slots__ = ("_callback", "_context", "_hand_over", "loop", "scheduled")

    scheduled: Scheduled

    def __init__(self, hand_over: HandOver, loop: asyncio.AbstractEventLoop, callback: Callback) -> None:
        self._hand_over = hand_over
        self.loop = loop
        self._callback: Callback | None = callback
        self._context = contextvars.copy_context()

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self._callback is not None

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made already."""
        self._callback = None
        self.scheduled.cancel()

    def fire(self) -> None:
        """Hand the call to its loop: the instant has come."""
        if self._callback is not None:
            self._hand_over(self.loop, self._run, self._context)

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
