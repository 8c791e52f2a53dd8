"""Long computations that let other threads run in between, sooner than they would have to.

A thread that computes keeps the interpreter until another one has asked for it for a whole switch interval, 5 ms. Where
it computes for a tenth of a second, whoever calls meanwhile waits so long again and again. So it steps aside by itself,
often, and for as long as one that waits takes to wake up.

Where two threads compute, the interpreter goes from one to the other, and whoever calls may wait for both, several
times over. So one that computes beside an event loop goes on only when the loop has come to the end of what it was
doing: it asks the loop to say so, and waits for that without asking for the interpreter.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import chain, islice
from threading import Event
from time import perf_counter, sleep  # noqa: TID251 - no time passes in it that anybody goes by
from typing import TypeVar

SLICE = 0.002
"""Seconds between two rests."""

REST = 5e-5
"""Seconds. With none at all the interpreter would be taken back before anybody is awake."""

PATIENCE = 0.1
"""Seconds that a rest beside a loop takes at most, should something block the loop."""

T = TypeVar("T")


def giving_way(steps: Iterable[T], at_once: int = 1) -> Iterator[T]:
    """Return the steps of a long computation, with a rest after the first ones that end a slice. Threads: any.

    Args:
        at_once: so many short steps are taken before it looks at the time.

    Raises:
        RuntimeError: the loop that it makes way for (`beside`) was closed.

    Cost: a tenth of a microsecond for each look, and a tenth of a millisecond a rest.
    """
    return chain.from_iterable(_with_rests(iter(steps), at_once))


def beside(loop: AbstractEventLoop, compute: Callable[[], T]) -> T:
    """Compute, and make way for the thread of ``loop`` meanwhile. Not on that thread, nor with a lock that it takes."""
    before = _rests.set(_Pauses(loop))
    try:
        return compute()
    finally:
        _rests.reset(before)


class _Rests:
    """Short ones. `due`: when the next one is."""

    def __init__(self) -> None:
        self.due = perf_counter() + SLICE

    def take(self) -> None:
        """Let others run, and go on for a slice."""
        self._wait()
        self.due = perf_counter() + SLICE

    def _wait(self) -> None:
        sleep(REST)


class _Pauses(_Rests):
    """Those of a loop, each as long as a slice: the interpreter is free half of the time, at first above all."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.take()

    def _wait(self) -> None:
        loop, idle = self._loop, Event()
        loop.call_soon_threadsafe(lambda: loop.call_later(SLICE, loop.call_soon, idle.set))  # after all it has to do
        idle.wait(PATIENCE)
        super()._wait()


_rests: ContextVar[_Rests] = ContextVar("svcmesh_rests")


def _with_rests(steps: Iterator[T], at_once: int) -> Iterator[tuple[T, ...]]:
    rests = _rests.get(None) or _Rests()
    while taken := tuple(islice(steps, at_once)):
        yield taken
        if perf_counter() >= rests.due:
            rests.take()
