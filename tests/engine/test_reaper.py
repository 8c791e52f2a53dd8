"""One timer for all awaited attempts of a loop, and whose cancellation it was."""

from __future__ import annotations

import asyncio
import gc
import math

import pytest

from svcmesh import Mesh
from svcmesh.core.clock import SYSTEM, sleep_until
from svcmesh.engine.reaper import Reaper, Reapers
from svcmesh.testing import FakeClock
from svcmesh.testing.sim import run


async def guarded(reaper: Reaper, until: float) -> str:
    """Wait for ever inside a watch, and say what ended it."""
    key = reaper.watch(until)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        if reaper.late(key):
            return "late"
        raise
    return "never"


def test_what_is_late_is_cancelled_at_its_own_instant() -> None:
    clock = FakeClock()

    async def main() -> list[float]:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        ended: list[float] = []

        async def one(until: float) -> None:
            assert await guarded(reaper, until) == "late"
            ended.append(clock.now())

        await asyncio.gather(*(one(until) for until in (3.0, 1.0, 2.0, 2.0)))
        assert reaper.open == {}
        assert reaper._expired == {}
        return ended

    assert run(main(), kernel=clock) == [1.0, 2.0, 2.0, 3.0]


def test_a_cancellation_by_somebody_else_is_not_taken_for_ours() -> None:
    clock = FakeClock()

    async def main(both: bool) -> bool:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        task = asyncio.ensure_future(guarded(reaper, clock.now() + 1.0))
        await sleep_until(clock, clock.now() + (1.0 if both else 0.5))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main(both=False), kernel=clock)
    assert run(main(both=True), kernel=clock)


def test_after_a_timeout_the_task_can_go_on_and_be_timed_out_again() -> None:
    """Our cancellation is taken back, so that `asyncio.timeout` and task groups around it count right."""
    clock = FakeClock()

    async def main() -> None:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        task = asyncio.current_task()
        assert task is not None
        for instant in (1.0, 2.0):
            assert await guarded(reaper, instant) == "late"
            assert task.cancelling() == 0

    run(main(), kernel=clock)


def test_watches_that_end_in_time_leave_one_timer_at_most() -> None:
    clock = FakeClock()

    async def main() -> None:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        for n in range(100):
            key = reaper.watch(10.0 + n)
            assert not reaper.late(key)
        assert reaper.open == {}
        assert len(clock._heap) == 1

    run(main(), kernel=clock)


def test_a_watch_without_limit_sets_no_timer() -> None:
    """Not even when one beside it has ended: virtual time would jump to the end of all days."""
    clock = FakeClock()

    async def main() -> None:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        forever = reaper.watch(math.inf)
        other = asyncio.ensure_future(guarded(reaper, 1.0))
        assert await other == "late"
        assert clock.next_at() is None
        assert not reaper.late(forever)

    run(main(), kernel=clock)


def test_nested_watches_of_one_task_that_end_together_cancel_it_once() -> None:
    clock = FakeClock()

    async def main() -> str:
        reaper = Reapers(clock).of(asyncio.get_running_loop())
        key = reaper.watch(1.0)
        try:
            await guarded(reaper, 1.0)
        except asyncio.CancelledError:
            assert reaper.late(key)
            await asyncio.sleep(0)  # nothing is left that would be raised here
            return "outer"
        return "inner"

    assert run(main(), kernel=clock) == "outer"


def test_outside_of_a_task_there_is_nothing_to_cancel() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="inside tasks of asyncio"):
            Reaper(SYSTEM, loop).watch(1.0)
    finally:
        loop.close()


def test_closed_loops_are_forgotten() -> None:
    """A mesh that lives through a thousand `asyncio.run` keeps the last loop, not all of them."""
    reapers = Reapers(SYSTEM)

    async def use() -> None:
        loop = asyncio.get_running_loop()
        assert reapers.of(loop) is reapers.of(loop)

    for _ in range(5):
        asyncio.run(use())
    gc.collect()

    assert len(reapers.by_loop) == 1
    reapers.reset_after_fork()
    assert reapers.by_loop == {}


def test_calls_left_on_a_loop_that_was_closed_are_no_longer_in_flight() -> None:
    """Nobody will wake them: once they are collected they count as cancelled, and `Mesh.state` has let go of them."""
    with Mesh({"service": ["127.0.0.1:1"]}) as mesh:
        loop = asyncio.new_event_loop()

        @mesh.service("service").guard
        async def call() -> None:
            await asyncio.Event().wait()

        task = loop.create_task(call())
        task._log_destroy_pending = False  # the loop's complaint, which is not what this is about
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert mesh.state()["services"]["service"]["in_flight"] == 1
        loop.close()
        del task, loop
        for _ in range(100):
            mesh.state()
            gc.collect()  # does nothing while it goes on in another thread
            if mesh.state()["services"]["service"]["in_flight"] == 0:
                break
        assert mesh.state()["services"]["service"]["in_flight"] == 0
