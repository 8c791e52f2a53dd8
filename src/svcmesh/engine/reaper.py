"""One timer for all awaited attempts of a loop, instead of one each.

``asyncio.timeout`` costs as much as 44 bare awaits and ``call_later`` with its cancel 20, and nearly every timer is
cancelled unused. Here an attempt costs one entry in a dict; one timer stands at the earliest end among those that
were open when it was set, and looks through the dict when it rings. With a per-try timeout of 3 s that is one look in
about 3 s, however many calls there are.
"""

from __future__ import annotations

import asyncio
import math

from svcmesh.core.clock import Clock, Timer

Entry = tuple[float, asyncio.Task[object], int]


class Reaper:
    """Cancels what is late on one loop. Threads: only the loop's own.

    The protocol is that of ``asyncio.timeout``: the entry remembers how many cancellations were requested before, and
    `late` takes its own one back, so that a cancellation by somebody else is never mistaken for a timeout.
    """

    __slots__ = ("_clock", "_expired", "_loop", "_timer", "open", "wake")

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._timer: Timer | None = None
        self._expired: dict[object, Entry] = {}
        self.open: dict[object, Entry] = {}
        self.wake = math.inf

    def arm(self, until: float) -> None:
        """Set the timer to ``until``; called where an entry ends before `wake`."""
        if self._timer is not None:
            self._timer.cancel()
        self.wake = until
        self._timer = self._clock.call_at(self._loop, until, self._ring)

    def watch(self, until: float) -> object:
        """Cancel the current task at ``until`` unless `late` is asked before; return the entry's key."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("svcmesh awaits inside tasks of asyncio only; this coroutine runs outside of one")
        key = object()
        self.open[key] = (until, task, task.cancelling())
        if until < self.wake:
            self.arm(until)
        return key

    def others(self, key: object) -> bool:
        """Return whether somebody else has cancelled the task since `watch`. Asked before `late`."""
        expired = self._expired.get(key)
        _, task, before = expired or self.open[key]
        return task.cancelling() - (expired is not None) > before

    def late(self, key: object) -> bool:
        """Forget the entry; return whether its task was cancelled by us, and by nobody else."""
        if self.open.pop(key, None) is not None:
            return False
        entry = self._expired.pop(key, None)
        return entry is not None and entry[1].uncancel() <= entry[2]

    def _ring(self) -> None:
        now = self._clock.now()
        self._timer = None
        self.wake = math.inf
        for key, entry in list(self.open.items()):
            if entry[0] <= now:
                self._expired[key] = self.open.pop(key)
                entry[1].cancel()
        earliest = min((entry[0] for entry in self.open.values()), default=math.inf)
        if earliest < math.inf:
            self.arm(earliest)


class Reapers:
    """The reapers of one mesh, one per loop; those of closed loops are forgotten when another one comes, or when asked.

    Threads: any. When two loops come at once one reaper may be lost from here: its attempts hold it, the next ones get
    another, and two on one loop disturb each other in nothing.
    """

    __slots__ = ("_clock", "by_loop")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.by_loop: dict[asyncio.AbstractEventLoop, Reaper] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> Reaper:
        """Return the reaper of ``loop``."""
        reaper = self.by_loop.get(loop)
        if reaper is None:
            reaper = Reaper(self._clock, loop)
            self.forget_closed()
            self.by_loop = {**self.by_loop, loop: reaper}
        return reaper

    def forget_closed(self) -> None:
        """Let go of closed loops and of calls that were left on them, which count as cancelled once collected."""
        if any(loop.is_closed() for loop in self.by_loop):
            self.by_loop = {loop: reaper for loop, reaper in self.by_loop.items() if not loop.is_closed()}

    def reset_after_fork(self) -> None:
        """Forget all loops: what they watched goes on in the parent."""
        self.by_loop = {}
