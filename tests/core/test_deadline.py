"""The ambient deadline: only ever shortened, and wherever the work goes it goes too."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, deadline, in_context, remaining
from svcmesh.core.clock import SYSTEM
from svcmesh.core.deadline import DeadlineInSteps, ambient_on, at
from svcmesh.testing import FakeClock


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", None, True])
def test_a_wrong_budget_is_refused_when_it_is_made(seconds):
    with pytest.raises(ConfigError, match="deadline"):
        deadline(seconds)


def test_without_one_there_is_none():
    assert remaining() is None
    assert ambient_on(SYSTEM) is None


def test_it_counts_down_to_zero_and_not_below():
    clock = FakeClock()
    with deadline(2000.0):
        assert remaining() == pytest.approx(2000, abs=100)
        assert ambient_on(clock) == 2000.0
        clock.advance(1500)
        assert remaining() == pytest.approx(500, abs=100)
        clock.advance(5000)
        assert remaining() == 0.0
    assert remaining() is None


def test_zero_is_a_budget():
    with deadline(0):
        assert remaining() == 0.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_nesting_only_shortens(budgets):
    """However blocks are nested, the shortest one inside which we are holds; leaving restores the outer one."""
    clock = FakeClock()

    def descend(depth):
        if depth == len(budgets):
            return
        before = ambient_on(clock)
        with deadline(budgets[depth]):
            assert ambient_on(clock) == min(budgets[: depth + 1])
            descend(depth + 1)
        assert ambient_on(clock) == before

    descend(0)


def test_a_clock_made_inside_a_block_gets_what_is_left():
    """A longer inner block gives no more time to a clock that the outer block did not know."""
    with deadline(1000.0):
        clock = FakeClock(start=50)
        assert ambient_on(clock) == pytest.approx(1050, abs=100)
        with deadline(100_000.0):
            assert ambient_on(clock) <= 1050
            assert remaining() <= 1000.0


def test_each_clock_spends_it():
    one, other = FakeClock(), FakeClock(start=7)
    with deadline(3.0):
        one.advance(3)
        assert remaining() == 0.0
        assert ambient_on(other) == 10


async def test_it_follows_tasks_and_to_thread():
    clock = FakeClock()
    with deadline(4.0):
        task = asyncio.create_task(asyncio.to_thread(ambient_on, clock))
    assert await task == 4.0
    assert remaining() is None


async def test_a_block_in_one_task_is_none_in_another():
    inside = asyncio.Event()

    async def other():
        await inside.wait()
        return remaining()

    task = asyncio.create_task(other())
    with deadline(1.0):
        inside.set()
        assert await task is None


async def test_one_object_may_serve_many_tasks_at_once():
    """Blocks that overlap without nesting each end their own."""
    clock, limit = FakeClock(), deadline(5.0)
    entered = asyncio.Event()

    async def first():
        with limit:
            entered.set()
            await asyncio.sleep(0.01)
            return ambient_on(clock)

    async def second():
        await entered.wait()
        with limit:
            await asyncio.sleep(0)
            found = ambient_on(clock)
        assert ambient_on(clock) is None
        return found

    assert await asyncio.gather(first(), second()) == [5.0, 5.0]


def test_a_generator_closed_elsewhere_does_no_harm():
    """A block in a generator that another thread closes ends without an error."""

    def steps():
        with deadline(1.0):
            yield

    generator = steps()
    in_context(lambda: next(generator))()
    generator.close()

    assert remaining() is None


def test_other_threads_need_in_context():
    clock = FakeClock()
    with ThreadPoolExecutor(2) as pool, deadline(4.0):
        assert pool.submit(ambient_on, clock).result() is None
        bound = in_context(ambient_on)
        assert [f.result() for f in [pool.submit(bound, clock) for _ in range(4)]] == [4.0] * 4


def test_in_context_serves_many_threads_at_once():
    """The same bound function runs in several threads together, and each sees the deadline."""
    barrier, clock, found = threading.Barrier(4), FakeClock(), []

    def work():
        barrier.wait(30)
        found.append(ambient_on(clock))
        barrier.wait(30)

    with deadline(4.0):
        bound = in_context(work)
    threads = [threading.Thread(target=bound) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [4.0] * 4


def test_in_context_keeps_what_the_function_is_called():
    def charge(order: str) -> float:
        """Charge."""
        return float(len(order))

    bound = in_context(charge)

    assert (bound.__name__, bound.__doc__) == ("charge", "Charge.")
    assert inspect.signature(bound) == inspect.signature(charge)


async def test_in_context_binds_a_coroutine_function_however_late_it_is_awaited():
    """It stays one, and each of its steps runs where it was bound: the deadline, and all that is in a context."""
    clock, name = FakeClock(), contextvars.ContextVar[str]("name")

    async def ask(value):
        before = ambient_on(clock), name.get()
        await asyncio.sleep(0)
        assert (ambient_on(clock), name.get()) == before
        return value, before

    name.set("bound")
    with deadline(4.0):
        bound = in_context(ask)
    name.set("later")
    clock.advance(1.0)

    assert inspect.iscoroutinefunction(bound)
    assert await asyncio.gather(bound(1), bound(2)) == [(1, (4.0, "bound")), (2, (4.0, "bound"))]
    assert (remaining(), name.get()) == (None, "later")


async def test_a_coroutine_in_context_is_cancelled_and_fails_as_any():
    """What is thrown in reaches it in its context, and what it raises comes out."""
    clock, seen = FakeClock(), []

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(ambient_on(clock))
            raise KeyError("cancelled") from None

    with deadline(4.0):
        bound = in_context(waits)
    task = asyncio.create_task(bound())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(KeyError):
        await task
    assert seen == [4.0]


def test_a_coroutine_in_context_that_is_dropped_is_closed_there():
    clock, seen = FakeClock(), []

    @types.coroutine
    def pause():
        yield

    async def waits():
        try:
            await pause()
        finally:
            seen.append(ambient_on(clock))

    with deadline(4.0):
        coroutine = in_context(waits)()
    coroutine.send(None)
    coroutine.close()

    assert seen == [4.0]


async def test_a_deadline_around_the_call_shortens_the_one_that_was_bound():
    """And a longer one changes nothing."""
    clock = FakeClock()

    async def ask():
        return ambient_on(clock)

    with deadline(4.0):
        bound, awaited = in_context(ambient_on), in_context(ask)
    with deadline(2.0):
        assert (bound(clock), await awaited()) == (2.0, 2.0)
    with deadline(9.0):
        assert (bound(clock), await awaited()) == (4.0, 4.0)
    with deadline(2.0):
        assert in_context(ambient_on)(clock) == 2.0


@contextlib.contextmanager
def block():
    yield remaining()


def steps():
    yield remaining()


async def async_steps():
    yield remaining()


@pytest.mark.parametrize("fn", [block, steps, async_steps])
def test_in_context_refuses_what_runs_after_the_call(fn):
    with pytest.raises(ConfigError, match="whose body runs after the call: bind what uses it"):
        in_context(fn)


def test_at_sets_an_instant_and_takes_it_back():
    clock = FakeClock(start=10)
    with at(clock, 12.0):
        assert ambient_on(clock) == 12.0
        assert remaining() == 2.0
    with at(SYSTEM, math.inf):
        assert remaining() is None
    assert ambient_on(clock) is None


def test_the_system_clock_alone_keeps_a_bare_instant():
    """An instant of the system's clock can be read on a virtual clock that is made later."""
    with at(SYSTEM, SYSTEM.now() + 1000):
        assert ambient_on(FakeClock(start=100)) == pytest.approx(1100, abs=100)
        assert remaining() == pytest.approx(1000, abs=100)


def test_a_block_that_a_generator_left_open_does_not_outlive_the_one_around_it():
    """The generator holds it across a yield; when the outer block ends, its budget ends too."""

    def steps():
        with deadline(0.5):
            yield remaining()

    left_behind = steps()
    with deadline(5):
        assert next(left_behind) <= 0.5
    assert remaining() is None
    with deadline(7):
        left_behind.close()
        assert 6 < remaining() <= 7
    assert remaining() is None


def in_steps(steps, generator):
    """Run a generator as servers run a streamed answer: each step under ``steps``, and others in between."""
    while True:
        with steps:
            try:
                found = next(generator)
            except StopIteration:
                return
        yield found


@given(st.lists(st.one_of(st.floats(0, 100), st.just("leave"), st.just("yield")), max_size=12))
def test_what_runs_in_steps_has_at_each_of_them_what_it_would_have_in_one_go(course):
    """Blocks that begin in one step and end in another, in whatever order; and nobody in between notices."""
    clock = FakeClock()

    def steps():
        blocks = []
        for one in course:
            if one == "yield":
                yield ambient_on(clock)
            elif one == "leave":
                if blocks:
                    blocks.pop().__exit__(None, None, None)
            else:
                blocks.append(deadline(one))
                blocks[-1].__enter__()
        while blocks:
            blocks.pop().__exit__(None, None, None)
            yield ambient_on(clock)

    with deadline(50):
        at_once = list(steps())
    for found, expected in zip(in_steps(DeadlineInSteps(50), steps()), at_once, strict=True):
        assert found == expected
        assert remaining() is None


def test_a_budget_in_steps_runs_down_from_when_it_was_made():
    clock = FakeClock()
    budget = DeadlineInSteps(10)
    clock.advance(4)
    with budget:
        assert ambient_on(clock) == 10
        assert remaining() == 6
    clock.advance(10)
    with budget:
        assert remaining() == 0


def test_a_step_is_shortened_by_what_is_outside_and_for_that_step_only():
    """Whoever stands around it may give each step a time of its own."""
    clock = FakeClock()
    budget = DeadlineInSteps(10)
    for _ in range(3):
        with deadline(2), budget:
            assert ambient_on(clock) == clock.now() + 2
        assert remaining() is None
        clock.advance(3)
    with deadline(2), budget:
        assert ambient_on(clock) == clock.now() + 1


def test_steps_may_be_on_several_threads():
    """As those of a plain generator on an asyncio server are; a block that began on one of them holds on the next."""
    budget = DeadlineInSteps(1000)

    def steps():
        with deadline(100):
            yield remaining()
            yield remaining()
        yield remaining()

    source = steps()

    def step():
        with budget:
            found = next(source)
        assert remaining() is None
        return found

    found = []
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(step).result())
    assert 0 < found[1] <= found[0] <= 100
    assert 100 < found[2] <= 1000
