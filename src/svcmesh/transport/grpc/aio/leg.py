"""One attempt of an asyncio call, and how the machine's timers find back to the call's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from svcmesh.core.outcome import Outcome
from svcmesh.engine.callback import CallbackDriver
from svcmesh.engine.exchange import Attempt, CallbackExchange
from svcmesh.engine.machine import Call
from svcmesh.transport.grpc.aio.lean import reading
from svcmesh.transport.grpc.leg import Account

LOCALLY_CANCELLED = "Locally cancelled by application!"
"""The details that gRPC gives to a call which was cancelled on this side."""


class AioLeg:
    """An attempt: gRPC's call object, and what is owed for it. See `grpc_leg.Leg`.

    Attributes:
        reads: reads one message or EOF, where that is known to be how gRPC's own iterator gets it; else None.
    """

    __slots__ = ("__weakref__", "account", "committed", "iterator", "late", "processed", "reads", "stock")

    def __init__(self, stock: Any, account: Account) -> None:
        self.stock = stock
        self.account = account
        self.committed = False
        self.late = False
        self.processed = False
        self.iterator: Any = None
        self.reads = reading(stock)

    def messages(self) -> Any:
        """Return the iterator over the messages of this attempt."""
        if self.iterator is None:
            self.iterator = aiter(self.stock)
        return self.iterator

    @property
    def dropped(self) -> bool:
        """Whether an attempt that is over was cancelled on this side, and not by a timer of ours.

        gRPC does so by itself when the task that awaits it is cancelled, and when the iterator of its requests raises.
        """
        stock = self.stock
        return not self.late and stock.cancelled() and value_of(stock.details()) == LOCALLY_CANCELLED

    @property
    def headers_came(self) -> bool:
        """Whether initial metadata have arrived; False when this grpcio does not let us see it without suspending."""
        return getattr(getattr(self.stock, "_cython_call", None), "_initial_metadata", None) is not None


class LoopDriver(CallbackDriver):
    """A driver whose timers and waits come back on the loop of the call."""

    def __init__(
        self, call: Call, exchange: CallbackExchange, done: Callable[[Outcome], object], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(call, exchange, done)
        self._loop = loop
        self._thread = threading.get_ident()

    def go(self) -> None:
        """Start, or look again, on the loop; when that has ended, so has the call."""
        if self._loop.is_closed():
            self.cancel()
            return
        if threading.get_ident() == self._thread:
            super().go()
            return
        try:
            self._loop.call_soon_threadsafe(super().go)
        except RuntimeError:
            self.cancel()

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Report the end of an attempt; no other follows on a loop that has ended."""
        if self._loop.is_closed():
            self.cancel()
        else:
            super().ended(attempt, outcome)

    def _on_cancel(self) -> None:
        if self._loop.is_closed():
            self._cancels.clear()  # they would be told by their loop
        super()._on_cancel()


def never_began(stock: Any) -> bool:
    """Return whether the task of a stock call was cancelled before its first step, of which gRPC learns nothing.

    Whoever shuts down by cancelling all tasks does that. False where this grpcio does not let us see it.
    """
    task = getattr(stock, "_call_response", None) or getattr(stock, "_preparation", None)
    return task is not None and task.cancelled() and not stock.done()


def value_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that does not suspend, as those of a stock call that has ended do not."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("a call that had ended was still waiting for its end")
