"""One timer for many waits: each is late when its time is up, and neither before nor after; in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.transport.http.connection.alarm import Alarm, settle


class Timer:
    """A timer of `Loop`."""

    def __init__(self, when: float, act: Callable[[], object]) -> None:
        self.when = when
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as an alarm uses, with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Callable[..., object], *args: Any) -> Timer:
        self.timers.append(Timer(when, lambda: act(*args)))
        return self.timers[-1]

    def advance(self, until: float) -> None:
        """Let the timers ring that are due by then, each at its time."""
        while (due := self.next()) is not None and due.when <= until:
            self.timers.remove(due)
            self.now = due.when
            due.act()
        self.now = until

    def next(self) -> Timer | None:
        waiting = [timer for timer in self.timers if not timer.cancelled]
        return min(waiting, key=lambda timer: timer.when, default=None)


def started(alarm: Alarm, loop: Any, seconds: float, future_loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
    ready: asyncio.Future[bool] = future_loop.create_future()
    alarm.watch(ready, loop, seconds)
    return ready


async def test_waits_one_after_the_other_share_a_timer() -> None:
    """It stays where it was, rings for nobody, and is set again where there is somebody to ring for."""
    alarm, loop, here = Alarm(), Loop(), asyncio.get_running_loop()
    for _ in range(10):
        alarm.forget(started(alarm, loop, 3.0, here))
        loop.advance(loop.now + 0.1)
    last = started(alarm, loop, 3.0, here)
    assert len(loop.timers) == 1

    loop.advance(3.5)
    assert not last.done()
    loop.advance(4.0)

    assert last.result() is False
    assert loop.next() is None, "nobody waits any more"


async def test_a_shorter_wait_ends_first() -> None:
    alarm, loop, here = Alarm(), Loop(), asyncio.get_running_loop()
    longer = started(alarm, loop, 3.0, here)
    shorter = started(alarm, loop, 1.0, here)

    loop.advance(1.0)
    assert (shorter.done(), longer.done()) == (True, False)
    loop.advance(3.0)

    assert longer.result() is False


async def test_what_was_in_time_stays_so() -> None:
    """Its socket was ready in the same turn of the loop in which its time was up."""
    alarm, loop = Alarm(), Loop()
    ready = started(alarm, loop, 1.0, asyncio.get_running_loop())
    settle(ready, True)
    loop.advance(1.0)
    assert ready.result() is True


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(0, 30)), max_size=12))
def test_each_wait_ends_in_its_own_time(waits: list[tuple[int, int, int]]) -> None:
    """Whatever begins when, for how long, and is forgotten when: who is not forgotten is late exactly at its end."""
    alarm, loop, here = Alarm(), Loop(), asyncio.new_event_loop()
    open_waits: dict[asyncio.Future[bool], tuple[float, float]] = {}
    try:
        for now in range(60):
            loop.advance(now)
            for ready, (end, leaves) in open_waits.items():
                assert ready.done() == (end <= now and end <= leaves), (now, end, leaves)
            for begins, seconds, stays in waits:
                if begins == now:
                    leaves = math.inf if stays > 25 else begins + stays + 0.5  # between two looks
                    ready = started(alarm, loop, seconds, here)
                    open_waits[ready] = begins + seconds, leaves
            loop.advance(now + 0.5)
            for ready, (_, leaves) in open_waits.items():
                if leaves == now + 0.5:
                    alarm.forget(ready)
        assert loop.next() is None
    finally:
        here.close()
