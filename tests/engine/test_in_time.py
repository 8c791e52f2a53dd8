"""Awaiting for at most so long: what needs no timer gets none, and what is cut off is told from what is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.engine.in_time import CutShort, OutOfTime, in_time
from svcmesh.engine.reaper import Reapers


@pytest.fixture
def reapers() -> Reapers:
    return Reapers(SYSTEM)


async def test_what_never_waits_is_not_looked_after(reapers: Reapers) -> None:
    async def answer() -> int:
        return 42

    assert await in_time(answer(), reapers, 0.0) == 42
    assert not reapers.by_loop


async def test_what_waits_may_do_so_many_times(reapers: Reapers) -> None:
    async def answer() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return 42

    assert await in_time(answer(), reapers, SYSTEM.now() + 60) == 42
    assert not reapers.of(asyncio.get_running_loop()).open


async def test_a_future_can_be_awaited_too(reapers: Reapers) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 7)

    assert await in_time(future, reapers, SYSTEM.now() + 60) == 7


async def test_what_is_late_is_cut_off(reapers: Reapers) -> None:
    with pytest.raises(OutOfTime) as caught:
        await in_time(asyncio.Event().wait(), reapers, SYSTEM.now() + 0.01)

    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_answer_in_spite_of_the_cut_is_an_answer(reapers: Reapers) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    assert await in_time(stubborn(), reapers, SYSTEM.now() + 0.01) == "late"


async def test_somebody_elses_cancellation_is_passed_on(reapers: Reapers) -> None:
    task = asyncio.ensure_future(_await_for_ever(reapers))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not reapers.of(asyncio.get_running_loop()).open


async def test_an_error_comes_through(reapers: Reapers) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_time(fail(), reapers, SYSTEM.now() + 60)


async def _await_for_ever(reapers: Reapers) -> None:
    await in_time(asyncio.Event().wait(), reapers, SYSTEM.now() + 60)


async def closes_instead(cancelled: asyncio.Event) -> None:
    """Make an error of a cancellation, as some libraries do."""
    try:
        await cancelled.wait()
    except asyncio.CancelledError:
        raise ConnectionResetError("closed under us") from None


async def test_an_error_that_came_of_somebody_elses_cancellation_is_told_as_such(reapers: Reapers) -> None:
    """Else a call would go on that its caller has given up."""
    task = asyncio.ensure_future(in_time(closes_instead(asyncio.Event()), reapers, SYSTEM.now() + 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(CutShort) as caught:
        await task
    assert isinstance(caught.value.error, ConnectionResetError)

    late = in_time(closes_instead(asyncio.Event()), reapers, SYSTEM.now() + 0.01)
    with pytest.raises(OutOfTime):
        await late


async def test_a_task_that_was_cancelled_before_may_go_on(reapers: Reapers) -> None:
    """What cleans up after a cancellation is not cancelled itself."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionResetError

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await in_time(fail(), reapers, SYSTEM.now() + 60)

    task = asyncio.ensure_future(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ConnectionResetError):
        await task
