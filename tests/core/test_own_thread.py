"""A call that blocks is awaited, and whoever hangs holds nobody up."""

from __future__ import annotations

import asyncio
import threading

import pytest

import svcmesh
from svcmesh.core.own_thread import on_own_thread


async def test_it_returns_what_the_call_returns_from_a_thread_of_its_own() -> None:
    where = await on_own_thread(threading.current_thread, name="mine", exit_as=RuntimeError)

    assert where.name == "mine"
    assert where.daemon


async def test_it_runs_in_the_context_of_who_awaits_it() -> None:
    with svcmesh.deadline(5.0):
        left = await on_own_thread(svcmesh.remaining, name="mine", exit_as=RuntimeError)

    assert left is not None


async def test_errors_come_through_and_exits_as_an_error() -> None:
    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(KeyError, match="own"):
        await on_own_thread(lambda: fail(KeyError("own")), name="mine", exit_as=RuntimeError)
    with pytest.raises(RuntimeError, match=r"it raised SystemExit\(3\)"):
        await on_own_thread(lambda: fail(SystemExit(3)), name="mine", exit_as=RuntimeError)


def test_nobody_waits_for_a_call_that_hangs() -> None:
    """Neither who was cancelled nor the end of the loop; what it returns then is nobody's."""
    release = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                on_own_thread(lambda: release.wait(30), name="mine", exit_as=RuntimeError), timeout=0.01
            )

    asyncio.run(main())
    assert [thread.name for thread in threading.enumerate()].count("mine") == 1
    release.set()
