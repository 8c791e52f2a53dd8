"""The calls of one asyncio channel that are under way, for those who close it, and for loops that end before them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.transport.grpc.aio.finding import Owed
from svcmesh.transport.grpc.aio.leg import never_began


class Place:
    """What is under way on one loop.

    Attributes:
        dropped: calls that their callers may drop, and which are over then; kept weakly.
        kept: calls that go on without their callers, and attempts of no course yet.
        owed: the accounts of all other attempts, with gRPC's calls: they are to be settled even where ours are gone.
    """

    __slots__ = ("dropped", "kept", "owed")

    def __init__(self) -> None:
        self.dropped: weakref.WeakSet[Any] = weakref.WeakSet()
        self.kept: set[Any] = set()
        self.owed: Owed = {}

    def calls(self) -> set[Any]:
        """Return all calls that are over or not."""
        return {*self.dropped, *list(self.kept)}

    def lose(self) -> None:
        """Settle everything as cancelled, since the loop has ended, and it cannot be told any more."""
        for call in self.calls():
            lost = getattr(call, "lost", None)  # a stock call that is intercepted has ours below it
            if lost is not None:
                lost()
        while self.owed:
            self.owed.popitem()[0].end(Outcome(Kind.CANCELLED))

    def stuck(self) -> list[Any]:
        """Return the calls, ours or gRPC's, whose tasks were cancelled before they began. They end when cancelled."""
        stocks = [found() for found in list(self.owed.values())]
        ours = [call for call in list(self.kept) if call.never_began]
        return [*ours, *(stock for stock in stocks if stock is not None and never_began(stock))]


class Running:
    """Calls under way. Threads: each loop adds and removes its own; any may look.

    A stream that its caller has dropped is over, so those are kept weakly. A unary call goes on: it is kept until its
    end, which costs a tenth of what a weak reference costs; but not longer than its loop, which may end before it.
    """

    def __init__(self) -> None:
        self._places: dict[asyncio.AbstractEventLoop, Place] = {}

    def add(self, call: Any) -> None:
        """Take note of a call on the running loop that may be dropped."""
        self.on(asyncio.get_running_loop()).dropped.add(call)

    def on(self, loop: asyncio.AbstractEventLoop) -> Place:
        """Return the place of ``loop``, which is running; those of loops that have ended are cleared by the way."""
        found = self._places.get(loop)
        if found is None:
            found = self._places[loop] = Place()
            self.settle()
        return found

    def settle(self) -> None:
        """Settle what can never end any more: what loops that have ended left behind, and what has never begun.

        Any thread; what is stuck on a loop that runs on another thread is settled there, in its next turn.
        """
        for loop in list(self._places):
            place = self._places.pop(loop, None) if loop.is_closed() else self._places.get(loop)
            if place is None:
                continue
            if loop.is_closed():
                place.lose()
            elif stuck := place.stuck():
                _cancel_on(loop, stuck)

    def all(self) -> list[Any]:
        """Return all that are not over."""
        return [call for place in list(self._places.values()) for call in place.calls() if not call.done()]


def _cancel_on(loop: asyncio.AbstractEventLoop, stuck: list[Any]) -> None:
    if not loop.is_running() or loop is _here():
        _cancel(stuck)
        return
    with suppress(RuntimeError):  # it was closed just now
        loop.call_soon_threadsafe(_cancel, stuck)


def _here() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cancel(stuck: Iterable[Any]) -> None:
    for call in stuck:
        call.cancel()
