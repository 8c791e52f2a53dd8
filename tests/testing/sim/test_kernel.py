"""The kernel: everything in order of time, and at equal times in order of registration."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.core.clock import virtual_clocks
from svcmesh.testing.sim import DeadlockError, Kernel


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())))
def test_order_is_by_time_then_registration(events):
    """Whatever is scheduled and cancelled, the rest runs in stable order, each at its own instant."""
    kernel, ran = Kernel(), []
    for number, (when, cancelled) in enumerate(events):
        scheduled = kernel.at(when, lambda number=number: ran.append((kernel.now(), number)))
        if cancelled:
            scheduled.cancel()

    kernel.run()

    expected = [(when, number) for number, (when, cancelled) in enumerate(events) if not cancelled]
    assert ran == sorted(expected)
    assert kernel.next_at() is None


def test_run_until_stops_at_its_instant_and_goes_on_later():
    kernel, ran = Kernel(start=10), []
    for when in (11, 12, 13):
        kernel.at(when, lambda when=when: ran.append(when))

    kernel.run(until=12)
    assert (ran, kernel.now(), kernel.next_at()) == ([11, 12], 12, 13)
    kernel.run(until=12.5)
    assert (ran, kernel.now()) == ([11, 12], 12.5)
    kernel.run()
    assert (ran, kernel.now()) == ([11, 12, 13], 13)


def test_events_may_schedule_events_for_the_same_instant():
    kernel, ran = Kernel(), []
    kernel.at(1, lambda: (ran.append("a"), kernel.after(0, lambda: ran.append("c"))))
    kernel.at(1, lambda: ran.append("b"))

    kernel.run()

    assert (ran, kernel.now()) == (["a", "b", "c"], 1)


def test_the_past_means_now_and_time_never_goes_back():
    kernel, ran = Kernel(start=5), []
    kernel.at(1, lambda: ran.append(kernel.now()))
    kernel.at(-math.inf, lambda: ran.append(kernel.now()))

    kernel.run(until=4)
    assert (ran, kernel.now()) == ([], 5)
    kernel.run()
    assert ran == [5, 5]


def test_nan_is_refused():
    """An instant that compares with nothing would disorder the heap."""
    with pytest.raises(ConfigError, match="when"):
        Kernel().at(math.nan, print)


def test_cancelling_what_has_run_is_harmless():
    kernel = Kernel()
    scheduled = kernel.after(1, lambda: None)
    kernel.run()
    scheduled.cancel()

    assert kernel.step() is False


def test_an_error_in_an_event_leaves_the_rest_intact():
    kernel, ran = Kernel(), []
    kernel.at(1, lambda: 1 / 0)
    kernel.at(2, lambda: ran.append(2))

    with pytest.raises(ZeroDivisionError):
        kernel.run()
    kernel.run()

    assert ran == [2]


def test_a_wait_runs_the_simulation():
    """Waiting inside an event runs later ones meanwhile, in order."""
    kernel, event = Kernel(), threading.Event()
    found = []
    kernel.at(1, lambda: found.append((kernel.wait(event, 9), kernel.now())))
    kernel.at(3, event.set)
    kernel.at(2, lambda: found.append(kernel.now()))
    kernel.run()

    assert found == [2, (True, 3)]
    assert kernel.wait(threading.Event(), 20) is False
    assert kernel.now() == 20


def test_a_wait_that_cannot_end_is_a_deadlock():
    with pytest.raises(DeadlockError):
        Kernel().wait(threading.Event(), None)


def test_it_is_known_as_a_virtual_clock():
    kernel = Kernel()

    assert kernel in virtual_clocks
    assert "0 s" in repr(kernel)


async def test_call_at_hands_over_to_the_loop_and_can_be_cancelled_to_the_last():
    """A timer that is due already, but has not run on its loop yet, can still be cancelled."""
    kernel, ran, loop = Kernel(), [], asyncio.get_running_loop()
    late = kernel.call_at(loop, 1, lambda: ran.append("late"))
    kernel.call_at(loop, 1, lambda: ran.append("kept"))
    kernel.run()
    assert ran == []
    late.cancel()
    await asyncio.sleep(0)

    assert ran == ["kept"]
    assert not late.pending


def test_a_timer_of_a_closed_loop_is_forgotten():
    kernel, loop = Kernel(), asyncio.new_event_loop()
    kernel.call_at(loop, 1, lambda: None)
    loop.close()

    kernel.run()

    assert kernel.now() == 1
