"""A future that other threads complete: once or often, early or too late."""

from __future__ import annotations

import asyncio
import threading

from svcmesh.core.wakeup import wakeup


async def test_any_thread_wakes_it_and_more_than_once_does_no_harm() -> None:
    woken, wake = wakeup()

    for arguments in ((), ("ignored",)):
        thread = threading.Thread(target=wake, args=arguments)
        thread.start()
        thread.join()

    await woken
    await asyncio.sleep(0)  # the second one is noted
    assert woken.result() is None


async def test_a_wait_that_was_cancelled_is_left_alone() -> None:
    woken, wake = wakeup()
    woken.cancel()

    wake()
    await asyncio.sleep(0)

    assert woken.cancelled()


def test_after_the_end_of_its_loop_waking_does_nothing() -> None:
    async def main() -> object:
        return wakeup()[1]

    wake = asyncio.run(main())

    assert wake() is None  # type: ignore[operator]
