"""Await something for at most so long, without a timer where nothing waits.

A coroutine that answers from what it has (a cache, a buffer) never suspends. So it is begun first, by hand, and looked
after only if it does wait: then the loop and the task are found out, which takes longer than the rest of a plain call,
and the `Reaper` gets an entry.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

from svcmesh.core.loop import running_loop
from svcmesh.engine.reaper import Reaper, Reapers

T = TypeVar("T")


class OutOfTime(BaseException):
    """Raised in place of the cancellation by which an attempt was cut off; its cause is what came out of that."""


class CutShort(BaseException):
    """Raised in place of an ``error`` that came of a cancellation by somebody else: the call is not to go on."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@types.coroutine
def in_time(awaitable: Awaitable[T], reapers: Reapers, until: float) -> Generator[Any, Any, T]:
    """Await ``awaitable``, cancelled at the instant ``until``.

    Raises:
        OutOfTime: it was cancelled by us, and by nobody else. A result that came in spite of it is a result.
        CutShort: it was cancelled by somebody else, and made an error of that.
        RuntimeError: it waits, and this is no task of an asyncio loop; where none runs, also a ConfigError.
    """
    coroutine = awaitable if isinstance(awaitable, types.CoroutineType) else _awaiting(awaitable)
    try:
        waiting = coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the value of an Awaitable[T]
    try:
        reaper = reapers.of(running_loop())
        key = reaper.watch(until)
    except BaseException:
        coroutine.close()
        raise
    result: T = yield from _watched(coroutine, waiting, reaper, key)
    return result


def _watched(coroutine: Coroutine[Any, Any, T], waiting: Any, reaper: Reaper, key: object) -> Generator[Any, Any, T]:
    """Go on with a coroutine that waits for ``waiting``."""
    try:
        while True:
            try:
                sent = yield waiting
            except BaseException as error:  # noqa: BLE001 - a cancellation, above all, and it is the coroutine's
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(sent)
    except StopIteration as done:
        reaper.late(key)
        return done.value  # type: ignore[no-any-return]  # as above
    except BaseException as error:
        cut = isinstance(error, Exception) and reaper.others(key)
        if reaper.late(key):
            raise OutOfTime from error
        if cut:
            raise CutShort(error) from None  # type: ignore[arg-type]  # it is an Exception
        raise


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable
