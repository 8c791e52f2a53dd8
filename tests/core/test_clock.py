"""Clocks: the machine's, and waiting on any clock from a coroutine."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from svcmesh.core.clock import SYSTEM, sleep_until, wait_for
from svcmesh.testing.sim import run, virtual_clock


def test_the_system_clock_is_monotonic_time():
    before = time.monotonic()
    now = SYSTEM.now()

    assert before <= now <= time.monotonic()


def test_a_wait_that_is_over_does_not_block():
    event = threading.Event()

    assert SYSTEM.wait(event, SYSTEM.now() - 1) is False
    event.set()
    assert SYSTEM.wait(event, None) is True
    assert SYSTEM.wait(event, SYSTEM.now() - 1) is True


def test_a_wait_ends_at_its_instant():
    until = SYSTEM.now() + 0.01

    assert SYSTEM.wait(threading.Event(), until) is False
    assert SYSTEM.now() >= until


async def test_the_system_clock_uses_the_loops_timers():
    """A past instant means at once; a cancelled call is never made."""
    made = []
    loop = asyncio.get_running_loop()
    SYSTEM.call_at(loop, SYSTEM.now() + 0.005, lambda: made.append("cancelled")).cancel()
    SYSTEM.call_at(loop, SYSTEM.now() - 1, lambda: made.append("made"))
    await sleep_until(SYSTEM, SYSTEM.now() + 0.01)

    assert made == ["made"]


def test_sleep_until_sleeps_until():
    async def main():
        clock = virtual_clock()
        await sleep_until(clock, 12.5)
        await sleep_until(clock, 3)  # has passed
        return clock.now()

    assert run(main()) == 12.5


def test_a_cancelled_sleep_leaves_no_timer():
    async def main():
        clock = virtual_clock()
        task = asyncio.create_task(sleep_until(clock, 100))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.next_at()

    assert run(main()) is None


@pytest.mark.parametrize(
    ("done_at", "until", "expected"), [(5, 10, (True, 5)), (10, 5, (False, 5)), (5, None, (True, 5))]
)
def test_wait_for_says_whether_the_future_came_first(done_at, until, expected):
    """It returns at whichever comes first, and leaves neither a timer nor a callback."""

    async def main():
        clock, future = virtual_clock(), asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_at(done_at, future.set_result, None)
        found = (await wait_for(clock, future, until), clock.now())
        timer.cancel()
        assert clock.next_at() is None
        assert not future.cancelled()
        return found

    assert run(main()) == expected


async def test_instants_beyond_what_a_machine_can_count_to_are_far_away_and_no_error():
    """Threads refuse waits of three hundred years, and so do loops; nobody waits them out."""
    event = threading.Event()
    event.set()

    assert SYSTEM.wait(event, SYSTEM.now() + 1e300) is True
    SYSTEM.call_at(asyncio.get_running_loop(), SYSTEM.now() + 1e300, event.clear).cancel()
    assert event.is_set()
