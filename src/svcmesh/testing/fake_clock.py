"""A clock for tests: time passes only when the test says so, or when everybody is waiting for it.

A test gives one `FakeClock` to the mesh and to whatever else keeps time. By default the clock jumps by itself as
soon as somebody blocks on it and nothing else is going on, so that a retry that waits for a minute is tested in
microseconds and without a second thread. What "nothing else" means depends on who else is alive:

- The only Python thread blocks: nothing can happen, so time jumps at once.
- There are other threads: some may be on their way to a wait of their own. Time jumps to the earliest instant that
  anybody waits for when the clock has been left alone for ``patience`` real seconds. They are counted by short looks
  at the clock: time in which the whole process is stopped, or waits for its turn on a busy machine, brings nobody on.
- A coroutine on an ordinary loop waits, in the thread that made the clock: the same patience. Timers of other
  threads (the mesh's worker) never move time by themselves, or a heartbeat would make it run away.

The clock cannot see real I/O. A test that talks to real servers should not jump: use ``autojump=False`` and
`FakeClock.advance` there, or the system's clock. For whole programs of coroutines `svcmesh.testing.sim.run` is
better still: nothing in it is real, and so nothing in it needs patience.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from weakref import WeakKeyDictionary, WeakSet, ref

from svcmesh.core import checks
from svcmesh.testing.sim.kernel import Callback, Kernel, LoopTimer, Scheduled

TURNS = 16  # of a loop, in which what a timer set going (futures, tasks that wait for tasks) comes to rest
GLANCE = 0.001  # real seconds between two looks at a time that another thread may have moved
LOOP_TIMEOUT = 5.0  # real seconds that a loop of another thread is given to come to rest


class FakeClock(Kernel):
    """A `Clock` under the control of a test.

    Args:
        start: the instant at which it begins, in seconds; default 0.
        autojump: whether time jumps when everybody waits (see the module); can be changed at any time.
        patience: real seconds of quiet after which time jumps although other threads exist; default 0.005.

    Attributes:
        waits: virtual seconds that each blocking wait took, in the order in which they ended.

    While it is alive, ambient deadlines (`svcmesh.deadline`) run on it as well as on the system's clock.

    Threads: any.
    """

    def __init__(self, start: float = 0.0, *, autojump: bool = True, patience: float = 0.005) -> None:
        super().__init__(checks.number("start", start))
        self.autojump = autojump
        self.waits: list[float] = []
        self._patience = _duration("patience", patience)
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._blocked = 0
        self._looked = time.monotonic()  # the last real instant at which anybody looked whether it may jump
        self._quiet = 0.0  # real seconds, as far as looks have seen them, since anybody did something with the clock
        self._home = threading.get_ident()
        self._owners: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
        self._home_timers: WeakSet[_HomeTimer] = WeakSet()
        self._pushed: ref[asyncio.AbstractEventLoop] | None = None

    @property
    def slept(self) -> float:
        """Virtual seconds spent in blocking waits, all together."""
        return sum(self.waits)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: everything that falls due in them happens in order, each at its own instant.

        A timer of a loop that runs in another thread is given the time to do its work (and to set the next timer)
        before the clock goes on. From a coroutine use `advance_async`, which gives it to the own loop as well.

        Raises:
            ConfigError: negative or not finite.
        """
        self.run(self._now + _duration("seconds", seconds))

    async def advance_async(self, seconds: float) -> None:
        """Let ``seconds`` pass, and the running loop do what falls due in them, each at its own instant.

        Raises:
            ConfigError: negative or not finite.
        """
        target = self._now + _duration("seconds", seconds)
        await _turns()
        while self.step(target):
            await _turns()
        self._reach(target)

    def wait(self, event: threading.Event, until: float | None) -> bool:
        """Block until ``event`` is set or ``until`` (None: no limit) has come; return whether it is set."""
        began = self._now
        if event.is_set() or (until is not None and until <= began):
            return event.is_set()
        alarm = None if until is None else self.at(until, _nothing)
        self._count(+1)
        try:
            while not event.is_set() and (until is None or self._now < until):
                if not self._jump():
                    event.wait(GLANCE)
        finally:
            if alarm is not None:
                alarm.cancel()
            self.waits.append(self._now - began)
            self._count(-1)
        return event.is_set()

    def wait_for_waiters(self, count: int = 1, *, timeout: float = 5.0) -> None:
        """Block until at least ``count`` threads are blocked on this clock; for tests that `advance` it themselves.

        Raises:
            TimeoutError: they were not after ``timeout`` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._blocked >= count, timeout):
                raise TimeoutError(f"{self._blocked} threads wait for the clock after {timeout:g} s, not {count}")

    def at(self, when: float, callback: Callback) -> Scheduled:
        """Call ``callback`` at the instant ``when``, in the thread that moves the clock there."""
        with self._lock:
            self._touch()
            return super().at(when, callback)

    def next_at(self) -> float | None:
        """Return the instant of the next event, or None when nothing is scheduled."""
        with self._lock:
            return super().next_at()

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callback) -> LoopTimer:
        """Run ``callback`` on ``loop`` at the instant ``when``. Call it from the thread of that loop."""
        self._owners[loop] = threading.get_ident()
        if threading.get_ident() != self._home or getattr(loop, "kernel", None) is self:
            return super().call_at(loop, when, callback)  # a loop that runs in our time pushes it by itself
        timer = _HomeTimer(self._hand_over, loop, callback)
        timer.scheduled = self.at(when, timer.fire)
        self._home_timers.add(timer)
        if self._pushed is None or self._pushed() is not loop:
            self._pushed = ref(loop)
            loop.call_later(min(self._patience, GLANCE), self._push, loop)
        return timer

    def _take(self, limit: float) -> Callback | None:
        with self._lock:
            self._touch()
            return super()._take(limit)

    def _reach(self, instant: float) -> None:
        with self._lock:
            super()._reach(instant)

    def _count(self, change: int) -> None:
        with self._changed:
            self._blocked += change
            self._changed.notify_all()

    def _jump(self) -> bool:
        """Jump to the next thing that anybody waits for, if it is time to; return whether something happened."""
        if not self.autojump:
            return False
        with self._lock:
            if threading.active_count() > 1 and not self._is_quiet():
                return False
            self._touch()
            callback = super()._take(float("inf"))
        if callback is None:
            return False
        callback()
        return True

    def _touch(self) -> None:
        self._looked = time.monotonic()
        self._quiet = 0.0

    def _is_quiet(self) -> bool:
        """Look once more, and return whether looks have seen enough quiet by now."""
        now = time.monotonic()
        self._quiet += min(now - self._looked, GLANCE)  # more is a process that was stopped, or in a queue
        self._looked = now
        return self._quiet >= self._patience

    def _push(self, loop: asyncio.AbstractEventLoop) -> None:
        """Jump on behalf of the coroutines of the home thread, as long as any of them waits for the clock."""
        if any(timer.pending and timer.loop is loop for timer in self._home_timers):
            self._jump()
            loop.call_later(min(self._patience, GLANCE), self._push, loop)
        else:
            self._pushed = None

    def _hand_over(self, loop: asyncio.AbstractEventLoop, run: Callback, context: contextvars.Context) -> None:
        super()._hand_over(loop, run, context)
        if loop.is_running() and self._owners.get(loop) != threading.get_ident():
            _let_rest(loop)


class _HomeTimer(LoopTimer):
    """A timer of the thread that made the clock: while it is pending the clock jumps by itself."""

    __slots__ = ("__weakref__",)


def _duration(field: str, seconds: float) -> float:
    return checks.duration(field, seconds, zero=True)


def _nothing() -> None:
    """Mark an instant at which somebody wakes up."""


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _let_rest(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until a loop of another thread has gone round a few times, so that nothing is left half done."""
    rested = threading.Event()

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            rested.set()

    loop.call_soon_threadsafe(turn, TURNS)
    rested.wait(LOOP_TIMEOUT)
