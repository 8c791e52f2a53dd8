"""The driver for calls that nobody waits for: futures and streams return at once, and their ends come as callbacks.

Ends of attempts, timers and cancellations arrive on any thread, also from inside ``start``. They are put into a queue
which one thread at a time works off, so that the machine, which is not thread-safe, sees one thing after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.effects import Discard, Done, Start, Wait
from svcmesh.engine.exchange import Attempt, CallbackExchange
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER


class CallbackDriver:
    """Performs one call by callbacks.

    Args:
        call: the machine. exchange: what starts attempts.
        done: called once with the end of the call, on whatever thread it came; not after `cancel`.

    Threads: any.
    """

    def __init__(self, call: Call, exchange: CallbackExchange, done: Callable[[Outcome], object]) -> None:
        self._call = call
        self._exchange = exchange
        self._done = done
        self._lock = Lock()
        self._queue: deque[Callable[[], object]] = deque()
        self._busy = False
        self._over = False
        self._cancels: dict[Attempt, Callable[[], object]] = {}
        self._disarm: Callable[[], object] = _nothing

    def go(self) -> None:
        """Start, or look again."""
        self._enqueue(_nothing)

    def adopt(self, attempt: Attempt, cancel: Callable[[], object]) -> None:
        """Take over an attempt that is under way; its end is to be reported with `ended`."""
        self._cancels[attempt] = cancel

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Report the end of an attempt."""
        self._enqueue(lambda: self._on_end(attempt, outcome))

    def cancel(self) -> None:
        """Cancel what is under way and settle it; ``done`` is not called any more."""
        self._enqueue(self._on_cancel)

    def _enqueue(self, event: Callable[[], object]) -> None:
        with self._lock:
            self._queue.append(event)
            if self._busy:
                return  # whoever is at work takes it
            self._busy = True
        while True:
            with self._lock:
                if not self._queue:
                    self._busy = False
                    return
                event = self._queue.popleft()
            try:
                self._take(event)
            except BaseException:
                self._busy = False  # else nobody would ever take the next one
                raise

    def _take(self, event: Callable[[], object]) -> None:
        if self._over:
            return
        try:
            event()
            self._advance()
        except Exception as error:
            if self._over:
                raise  # it is over already: what failed was told of the end
            self._on_cancel()
            self._done(Outcome(Kind.ERROR, error, reason=type(error).__name__))

    def _advance(self) -> None:
        """Perform effects until the machine waits or is done."""
        now = self._call.view.clock.now
        while not self._over:
            effect = self._call.poll(now())
            if isinstance(effect, Start):
                self._start(effect.attempt)
            elif isinstance(effect, Discard):
                self._exchange.discard(effect.outcome)
            elif isinstance(effect, Wait):
                self._wait(effect)
                return
            elif isinstance(effect, Done):
                self._end()
                self._done(effect.outcome)

    def _start(self, attempt: Attempt) -> None:
        self._cancels[attempt] = _nothing
        try:
            cancel = self._exchange.start(attempt, partial(self.ended, attempt))
        except Exception as error:  # noqa: BLE001 - the exchange knows what it means
            self._on_end(attempt, self._exchange.classify(error))
        else:
            self._cancels[attempt] = cancel

    def _wait(self, effect: Wait) -> None:
        self._disarm()
        self._disarm = _nothing
        disarms: list[Callable[[], object]] = []
        if effect.until < NEVER:
            disarms.append(self._call.view.runtime.call_at(effect.until, self.go))
        cluster, go = self._call.view.cluster, self.go
        cluster.add_waiter(go)  # the end of the mesh is told this way too, and its worker's timers end with it
        disarms.append(lambda: cluster.remove_waiter(go))
        if self._call.view.runtime.closed or (effect.seen is not None and cluster.news != effect.seen):
            self._queue.append(_nothing)  # it came since the machine looked, and nobody will tell us again
        self._disarm = lambda: [disarm() for disarm in disarms]

    def _on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        if self._cancels.pop(attempt, None) is not None:
            self._call.ended(attempt, outcome, self._call.view.clock.now())

    def _on_cancel(self) -> None:
        self._end()
        now = self._call.view.clock.now
        self._call.abandon(now())
        while isinstance(effect := self._call.poll(now()), Discard):
            self._exchange.discard(effect.outcome)
        for cancel in self._cancels.values():
            cancel()
        self._cancels.clear()

    def _end(self) -> None:
        self._over = True
        self._disarm()
        self._disarm = _nothing


def _nothing() -> None:
    """Do nothing; the machine is asked anew."""
