"""FakeClock: time passes when the test says so, or when everybody waits."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
import types

import pytest

from svcmesh import ConfigError
from svcmesh.core.clock import sleep_until
from svcmesh.testing import FakeClock, fake_clock

NEVER = threading.Event()


@pytest.fixture
def worker():
    """A loop that runs in a thread of its own, as a mesh's worker does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def in_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


def test_time_stands_still():
    clock = FakeClock(start=3)

    assert clock.now() == clock.now() == 3


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, None])
def test_advance_refuses_nonsense(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        FakeClock().advance(seconds)


def test_advance_makes_what_is_due_in_order_each_at_its_instant():
    clock, ran = FakeClock(), []
    for when in (3, 1, 2, 1):
        clock.at(when, lambda when=when: ran.append((when, clock.now())))
    clock.advance(2.5)

    assert ran == [(1, 1), (1, 1), (2, 2)]
    assert clock.now() == 2.5


def test_a_blocking_wait_costs_nothing():
    """Alone, a wait jumps to its end; what is due on the way happens at its own instant."""
    clock, ran = FakeClock(), []
    clock.at(5, lambda: ran.append(clock.now()))

    assert clock.wait(NEVER, 3600) is False
    assert clock.now() == 3600
    assert ran == [5]
    assert (clock.waits, clock.slept) == ([3600], 3600)


def test_a_wait_ends_when_its_event_is_set_on_the_way():
    clock, event = FakeClock(), threading.Event()
    clock.at(4, event.set)

    assert clock.wait(event, 10) is True
    assert clock.now() == 4
    assert clock.next_at() is None


def test_a_wait_without_limit_goes_as_far_as_its_event():
    clock, event = FakeClock(), threading.Event()
    clock.at(7, event.set)

    assert clock.wait(event, None) is True
    assert clock.now() == 7


def test_a_wait_that_is_over_is_none():
    clock, event = FakeClock(start=5), threading.Event()

    assert clock.wait(event, 5) is False
    event.set()
    assert clock.wait(event, None) is True
    assert clock.waits == []


def test_without_autojump_only_advance_moves_time():
    clock, ended = FakeClock(autojump=False), []
    threads = in_threads(lambda: ended.append(clock.wait(NEVER, 10)))
    clock.wait_for_waiters(1)
    clock.advance(9.5)
    assert threads[0].is_alive()
    clock.advance(0.5)
    threads[0].join(30)

    assert ended == [False]
    assert clock.waits == [10]


def test_wait_for_waiters_says_how_many_there_are():
    with pytest.raises(TimeoutError, match="0 threads"):
        FakeClock().wait_for_waiters(1, timeout=0.01)


def test_with_several_threads_time_goes_to_the_earliest():
    """Threads wake in the order of their instants, not in the order in which they began to wait."""
    clock, woken = FakeClock(autojump=False, patience=0.5), []

    def sleeper(seconds):
        clock.wait(NEVER, seconds)
        woken.append((seconds, clock.now()))

    threads = in_threads(*(lambda s=s: sleeper(s) for s in (30, 10, 20)))
    clock.wait_for_waiters(3)
    clock.autojump = True
    for thread in threads:
        thread.join(30)

    assert woken == [(10, 10), (20, 20), (30, 30)]


def test_an_event_set_by_another_thread_ends_a_wait_before_time_moves():
    clock, event = FakeClock(patience=30), threading.Event()
    threads = in_threads(lambda: (clock.wait_for_waiters(1), event.set()))

    assert clock.wait(event, 1000) is True
    assert clock.now() == 0
    threads[0].join(30)


def test_while_the_whole_process_is_stopped_nobody_is_quiet(monkeypatch):
    """A busy machine stops it for seconds: whoever was on the way to a wait is as far as before."""
    clock, event, looks = FakeClock(patience=5), threading.Event(), itertools.count()

    def stopped_meanwhile():
        look = next(looks)
        if look == 20:
            event.set()
        return time.monotonic() + 1000 * (look > 10)

    threads = in_threads(lambda: event.wait(30))
    monkeypatch.setattr(fake_clock, "time", types.SimpleNamespace(monotonic=stopped_meanwhile))

    assert clock.wait(event, 1000) is True
    assert clock.now() == 0
    threads[0].join(30)


async def test_nor_are_coroutines_of_the_tests_own_loop(monkeypatch, worker):
    clock, looks = FakeClock(patience=0.005), itertools.count()
    monkeypatch.setattr(fake_clock, "time", types.SimpleNamespace(monotonic=lambda: 1000 * next(looks)))
    await sleep_until(clock, 60)

    assert next(looks) > 5


def test_advance_lets_a_loop_of_another_thread_work_between_its_timers(worker):
    """A poll every second is seen polling every second, although the test advances ten at once."""
    clock, polls = FakeClock(), []

    async def poll():
        while True:
            await sleep_until(clock, clock.now() + 1)
            polls.append(clock.now())

    async def stop():
        task.cancel()
        await asyncio.wait([task])

    async def start():
        task = asyncio.create_task(poll())
        await asyncio.sleep(0)
        return task

    task = asyncio.run_coroutine_threadsafe(start(), worker).result(30)
    clock.advance(10)
    asyncio.run_coroutine_threadsafe(stop(), worker).result(30)

    assert polls == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_timers_of_another_thread_never_move_time_by_themselves(worker):
    clock = FakeClock(patience=0)

    async def heartbeat():
        clock.call_at(worker, clock.now() + 1, lambda: None)
        await asyncio.sleep(0.02)

    asyncio.run_coroutine_threadsafe(heartbeat(), worker).result(30)

    assert clock.now() == 0


async def test_a_coroutine_of_the_tests_own_loop_need_not_be_advanced():
    """Where the test's own thread waits in a coroutine, time jumps too."""
    clock = FakeClock()
    await asyncio.gather(*(sleep_until(clock, when) for when in (60, 30)))
    assert clock.now() == 60
    await sleep_until(clock, 90)  # the pushing has stopped in between

    assert clock.now() == 90


async def test_advance_async_lets_the_own_loop_work_between_its_timers():
    clock, polls = FakeClock(autojump=False), []

    async def poll():
        while True:
            await sleep_until(clock, clock.now() + 1)
            polls.append(clock.now())

    task = asyncio.create_task(poll())
    await clock.advance_async(3.5)
    task.cancel()

    assert (polls, clock.now()) == ([1, 2, 3], 3.5)


async def test_advance_sets_timers_free_to_run_on_their_loop():
    clock, ran = FakeClock(autojump=False), []
    clock.call_at(asyncio.get_running_loop(), 1, lambda: ran.append(clock.now()))
    clock.advance(5)
    assert ran == []
    await asyncio.sleep(0)

    assert ran == [5]
