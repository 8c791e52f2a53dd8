"""The course of a call that returned at once (a future, a stream): attempts one after the other, by callbacks.

The first attempt runs without a machine. Its end comes on gRPC's thread; a plain success is counted there and nothing
else happens. Anything else hands the attempt to the machine, whose next attempts start on whatever thread decides so.
A stream is committed, and never repeated, once a message or the initial metadata were handed out; until then the
policy's timeouts hold for it, by a timer, because on the wire they would end the stream itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Condition
from typing import Any

import grpc

from svcmesh.core.info import attach
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.callback import CallbackDriver
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER
from svcmesh.transport.grpc.arguments import refuse_unusable
from svcmesh.transport.grpc.bare import whole
from svcmesh.transport.grpc.errors import EndedCall
from svcmesh.transport.grpc.leg import Account, Leg, Report, given_up, told
from svcmesh.transport.grpc.line import GrpcExchange, Line, wire_end, wire_timeout
from svcmesh.transport.grpc.outcome import not_invoked
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.subject import key_of

Stock = tuple[Any, Any, Any]


class Flow:
    """One call under way. Threads: any.

    Attributes:
        end: what the call ended with: the stock call of its last attempt, or an error; None while it runs.
        leg: the newest attempt; None before the first and where there was none.
        deadline: when the call must have ended (a stream: begun to answer). wire_end: what is passed to the server.
    """

    def __init__(self, line: Line, request: Request, stock: Stock, timeout: float | None, patient: bool) -> None:
        view = line.view
        self.line = line
        self.request = request
        self.stock = stock
        self.key = key_of(view, line.method, stock[0], request)
        self.began = view.clock.now()
        self.deadline = view.deadline(self.began, timeout)
        self.wire_end = wire_end(line, timeout, self.deadline)
        self.cancelled = False
        self.end: Any = None
        self.leg: Leg | None = None
        self.changed = Condition()
        self.when_over: list[Callable[[], object]] = []
        self.pins: list[object] = []
        self._exchange = CallbackAttempts(self, patient)
        self._machine: Call | None = None
        self._driver: CallbackDriver | None = None
        self._disarm: Callable[[], object] | None = None
        self._misuse: BaseException | None = None  # what gRPC says of arguments that no call can be made with

    @property
    def single_threaded(self) -> bool:
        """Whether streams run on the thread that iterates over them (gRPC's experimental option)."""
        return self.line.dialer.single_threaded and self.line.method.kind == "unary_stream"

    def remaining(self) -> float | None:
        """Return the seconds left on the wire, None without a deadline."""
        ends = self.wire_end if self.line.method.streams_responses else self.deadline
        return None if ends == NEVER else max(0.0, ends - self.line.view.clock.now())

    # -- starting ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the first attempt; raises what the stock call would raise at once."""
        view = self.line.view
        member = view.enter(self.began, self.key) if self.began < self.deadline else None
        if member is None:
            self.line.dialer.refuse_closed()
            refuse_unusable(*self.stock)
            self._drive(Call(view, self._exchange, self.began, self.deadline)).go()
            if self._misuse is not None:
                raise self._misuse  # where an attempt could begin at once; else the end of the call has it as its cause
            return
        account = Account(view, member, self.began, None)
        try:
            self.dial(account, min(self.began + view.per_try, self.deadline))
        except BaseException as error:  # the request is unusable, or the channel was closed
            if not_invoked(error) and self.line.dialer.closed:
                view.leave(member)
                raise
            outcome = self._exchange.classify(error)
            if not isinstance(error, Exception) or outcome.kind is not Kind.UNSENT or not self._exchange.replayable():
                account.end(outcome)
                raise
            self._adopt(account)
            account.end(outcome)

    def dial(self, account: Account, until: float) -> Leg:
        """Start an attempt that has to end, or a stream to begin, by ``until``."""
        method, now = self.line.method, self.line.view.clock.now()
        call = self.line.stock(account.member)
        start = call if method.streams_responses else call.future
        ends = self.wire_end if method.streams_responses else until
        metadata, credentials, compression = self.stock
        stock = whole(start(self.request.again(), wire_timeout(ends - now), metadata, credentials, None, compression))
        leg = Leg(stock, account)
        with self.changed:
            self.leg = leg
            self.changed.notify_all()
        if until < ends:
            self._arm(leg, until)
        leg.attend(self, self.pins, untold=self.single_threaded)
        if self.cancelled:
            stock.cancel()
        return leg

    def _drive(self, call: Call) -> CallbackDriver:
        self._machine = call
        self.request.keep(self.line.method.serializer)
        self._driver = CallbackDriver(call, self._exchange, _weakly(self, Flow.machine_done))
        return self._driver

    def _adopt(self, account: Account) -> None:
        """Hand an attempt of the success path, which has ended, to the machine."""
        call = Call(self.line.view, self._exchange, self.began, self.deadline)
        driver = self._drive(call)
        account.attempt = attempt = call.adopt(account.member, account.started)
        account.report = lambda outcome: driver.ended(attempt, outcome)
        driver.adopt(attempt, _nothing)

    # -- a stream's first sign of life ---------------------------------------------------------------------------------

    def _arm(self, leg: Leg, until: float) -> None:
        flow, late = weakref.ref(self), weakref.ref(leg)

        def ring() -> None:
            found, its = flow(), late()
            if found is not None and its is not None:
                found.too_late(its)

        self._disarm = self.line.view.runtime.call_at(until, ring)

    def too_late(self, leg: Leg) -> None:
        """The time for a first sign of life is over."""
        if leg.headers_came:
            return
        with self.changed:
            if leg.committed or leg.processed or leg is not self.leg:
                return
            leg.late = True
        leg.stock.cancel()

    def expose(self, leg: Leg) -> bool:
        """Commit to ``leg``, because something of its answer is handed out; False: another attempt replaces it."""
        with self.changed:
            if leg.committed:
                return True
            if leg is not self.leg or leg.late or self.end not in (None, leg.stock):
                return False
            leg.committed = True
        self.request.commit()
        self._exchange.deferred = True  # from here on the end is counted by us, whatever the machine thinks of it
        if self._disarm is not None:
            self._disarm()
        leg.account.commit(leg.stock)
        return True

    # -- ends ----------------------------------------------------------------------------------------------------------

    def leg_over(self, leg: Leg) -> None:
        """Deal with the end of an attempt. Runs on gRPC's thread."""
        stock, account = leg.stock, leg.account
        streams = self.line.method.streams_responses
        outcome = self._outcome(leg)
        if outcome.kind is not Kind.SUCCESS:
            leg.release()
        elif streams:
            self.expose(leg)
        if leg.committed or self.cancelled or (outcome.kind is Kind.SUCCESS and account.report is None):
            if outcome.kind is not Kind.SUCCESS:
                attach(stock, told(self, self._machine, account, outcome))
            account.end(outcome)
            self.finish(stock)
        else:
            if account.report is None:
                self._adopt(account)
            if leg.late and self._machine is not None and account.attempt is not None:
                outcome = self._machine.timed_out(account.attempt)
            account.end(outcome)
        with self.changed:
            leg.processed = True
            self.changed.notify_all()

    def _outcome(self, leg: Leg) -> Outcome:
        stock = leg.stock
        try:
            if stock.code() is not grpc.StatusCode.OK:
                self._exchange.asked = leg.account.member
                return self._exchange.classify(stock, answered=leg.has_headers)
        except Exception as error:  # noqa: BLE001 - somebody's interceptor raised it, so that there is no status
            return Outcome(Kind.ERROR, error)
        return Outcome(Kind.SUCCESS, value=stock if self.line.method.streams_responses else stock.result())

    def machine_done(self, outcome: Outcome) -> None:
        """Take the end of the call from the machine; to the machine a stream is done when it begins to answer."""
        if outcome.error is not None:
            if not hasattr(outcome.error, "code"):
                self._misuse = outcome.error
            self.finish(outcome.error)
        elif self.leg is not None and not self.leg.committed:
            if self._machine is not None:
                attach(self.leg.stock, self._machine.story(outcome, self.line.view.clock.now()))
            self.finish(self.leg.stock)

    def finish(self, end: Any) -> None:
        """Note what the call ended with, once, and tell everybody."""
        with self.changed:
            if self.end is None:
                self.end = end if hasattr(end, "code") else EndedCall.of(end)
            callbacks, self.when_over = self.when_over, []
            self.changed.notify_all()
        if self._disarm is not None:
            self._disarm()
        for callback in callbacks:
            callback()

    def cancel(self, cancelled: BaseException) -> bool:
        """End the call at the caller's wish; ``cancelled`` is its end where no attempt is under way."""
        with self.changed:
            if self.end is not None:
                return False
            leg = self.leg if self.leg is not None and not self.leg.processed else None
            self.cancelled = True
            if leg is None:
                self.end = given_up(cancelled, self, self._machine, None)
        if leg is not None:
            leg.stock.cancel()
            if not leg.stock.cancelled():  # it ended by itself a moment ago, and another attempt may be coming
                leg = None
            account, ended = (None, cancelled) if leg is None else (leg.account, leg.stock)
            end = given_up(ended, self, self._machine, account)
            with self.changed:
                self.end = end if self.end is None else self.end
                self.changed.notify_all()
        if self._driver is not None:
            self._driver.cancel()
        if leg is None:
            self.finish(cancelled)
        return True


class CallbackAttempts(GrpcExchange):
    """The exchange of a flow; it holds the flow weakly, so that a call which was dropped can end."""

    def __init__(self, flow: Flow, patient: bool) -> None:
        super().__init__(flow.line, patient, flow.key)
        self.deferred = flow.line.method.streams_responses
        self._flow = weakref.ref(flow)
        self._pins = flow.pins  # where done callbacks were added, they keep the call alive through its waits

    def replayable(self) -> bool:
        """Whether the request can be sent again, by somebody who still wants to know."""
        flow = self._flow()
        return flow is not None and flow.request.replayable and super().replayable()

    def start(self, attempt: Attempt, ended: Report) -> Callable[[], object]:
        """Start an attempt; its end, or its failure to start, goes to ``ended``."""
        flow = self._flow()
        if flow is None:
            ended(Outcome(Kind.CANCELLED))
            return _nothing
        account = Account(flow.line.view, attempt.member, attempt.started, ended, attempt)
        try:
            return flow.dial(account, attempt.until).canceller()
        except Exception as error:  # noqa: BLE001 - whatever it is, `classify` knows what it means
            ended(self.classify(error))
            return _nothing


def _weakly(flow: Flow, method: Callable[[Flow, Outcome], None]) -> Callable[[Outcome], None]:
    """Return ``method`` of a flow that may be gone by the time it is called."""
    found = weakref.ref(flow)

    def call(outcome: Outcome) -> None:
        flow = found()
        if flow is not None:
            method(flow, outcome)

    return call


def _nothing() -> None:
    """Nothing to cancel."""
