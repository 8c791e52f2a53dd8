"""A call that may block, awaited: it runs on a thread of its own, a daemon that ends with the call.

A pool of threads would be waited for when the interpreter ends. Here nobody waits for a function that hangs: who awaits
it is cancelled, and the process may end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def on_own_thread(call: Callable[[], T], *, name: str, exit_as: type[Exception]) -> T:
    """Make a call on a thread of its own, in the context of this one, and return what it returned.

    Args:
        call: what may block. name: of the thread.
        exit_as: raised where it raised what would end the program, such as SystemExit. All other errors come through.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[T | None, Exception | None]] = loop.create_future()
    context = copy_context()

    def settle(value: T | None, error: Exception | None) -> None:
        if not done.done():
            done.set_result((value, error))

    def run() -> None:
        value, error = _outcome(lambda: context.run(call), exit_as)
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, value, error)

    Thread(target=run, name=name, daemon=True).start()
    value, error = await done
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # without an error it is what the call returned


def _outcome(call: Callable[[], T], exit_as: type[Exception]) -> tuple[T | None, Exception | None]:
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
        return None, error
    except BaseException as error:  # noqa: BLE001 - it would end the mesh's worker
        return None, exit_as(f"it raised {error!r}")
