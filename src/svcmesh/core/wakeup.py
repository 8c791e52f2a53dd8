"""What one task waits for, and any other thread may ring: a future of a loop that is completed from outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from svcmesh.core.loop import running_loop


def wakeup() -> tuple[asyncio.Future[None], Callable[..., None]]:
    """Return a future of the running loop, and the function that completes it, whatever arguments it gets.

    Threads: any may call the function, at any time and more than once. Where the loop has been closed it does nothing:
    whoever waited there is gone.
    """
    loop = running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake(*_: object) -> None:
        try:
            loop.call_soon_threadsafe(note)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return woken, wake
