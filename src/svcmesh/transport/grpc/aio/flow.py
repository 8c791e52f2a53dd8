"""The course of an asyncio call: it starts when it is made, goes on whether awaited or not, and needs no task of ours.

The stock call's done callback counts a plain success and decides everything else, before whoever awaits is resumed.
Only then does the machine exist; its attempts are stock calls again. All of it happens on the call's loop.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import grpc
import grpc.aio

from svcmesh.core.info import CallInfo, attach, info
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.machine import Call
from svcmesh.engine.member import Member
from svcmesh.transport.grpc.aio import errors as grpc_aio_errors
from svcmesh.transport.grpc.aio.attempts import AioAttempts
from svcmesh.transport.grpc.aio.errors import CLOSED
from svcmesh.transport.grpc.aio.finding import Hold, Owed, Owner, machine_done, over, too_late
from svcmesh.transport.grpc.aio.leg import LOCALLY_CANCELLED, AioLeg, LoopDriver, value_of
from svcmesh.transport.grpc.leg import Account, given_up, told
from svcmesh.transport.grpc.line import Line, wire_end, wire_timeout
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.subject import key_of

Stock = tuple[Any, Any, Any]
Times = tuple[asyncio.AbstractEventLoop, float, float, float]
"""The loop of a call, and instants: when it began, when it must have ended, and what the server learns of that."""
PROVISIONAL = "Internal error from Core"
"""What gRPC calls the end of a call whose message could not be written any more, until the server's status has come."""
PROVISIONAL_LOOKS = 50
LOOP_ENDED = "The event loop of the call has ended before it."


class AioFlow:
    """One call under way. Threads: its loop's.

    Attributes:
        over: whether the call has ended. error: what it ended with where that is no attempt's own end.
        leg: the newest attempt; None before the first. owed: the accounts of attempts under way, for the loop's end.
    """

    def __init__(
        self, line: Line, request: Request, stock: Stock, patient: bool, times: Times, key: int | None
    ) -> None:
        self.line = line
        self.loop, self.began, self.deadline, self.wire_end = times
        self.request = request
        self.stock = stock
        self.hold = None if line.method.streams_responses else Hold(self)
        self.owner: Owner = weakref.ref(self) if self.hold is None else self.hold
        self.over = False
        self.cancelled = False
        self.error: BaseException | None = None
        self.leg: AioLeg | None = None
        self.when_over: list[Callable[[], object]] = []
        self.owed: Owed = {}
        self._patient = patient
        self._key = key
        self._exchange: AioAttempts | None = None
        self._machine: Call | None = None
        self._driver: LoopDriver | None = None
        self._timer: Any = None
        self._later: asyncio.Task[None] | None = None
        self._moved: asyncio.Future[None] | None = None

    @classmethod
    def now(cls, line: Line, request: Request, stock: Stock, timeout: float | None, patient: bool) -> AioFlow:
        """Return the course of a call that begins now, on the running loop."""
        line = line.current
        began = line.view.clock.now()
        deadline = line.view.deadline(began, timeout)
        times = asyncio.get_running_loop(), began, deadline, wire_end(line, timeout, deadline)
        return cls(line, request, stock, patient, times, key_of(line.view, line.method, stock[0], request))

    @property
    def exchange(self) -> AioAttempts:
        """The machine's side of the call; made when something is no plain success."""
        if self._exchange is None:
            self._exchange = AioAttempts(self.line, self.owner, self._patient, self._key)
        return self._exchange

    @property
    def story(self) -> CallInfo | None:
        """What callers are told of a call that is over and was no plain success."""
        return info(self.error if self.error is not None or self.leg is None else self.leg.stock)

    # -- starting ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the first attempt; raises what the stock call would raise at once."""
        view = self.line.view
        if self.line.dialer.closing:
            raise grpc.aio.UsageError(CLOSED)
        member = view.enter(self.began, self._key) if self.began < self.deadline else None
        if member is None:
            self._drive(Call(view, self.exchange, self.began, self.deadline)).go()
        else:
            self.begin_at(member)

    def begin_at(self, member: Member) -> None:
        """Start the first attempt at ``member``, which counts it already; raises what the stock call would."""
        view = self.line.view
        try:
            self.dial(Account(view, member, self.began, None), min(self.began + view.per_try, self.deadline))
        except BaseException as error:  # noqa: BLE001 - raised there, unless another attempt is to follow
            self.not_started(member, error)

    def not_started(self, member: Member, error: BaseException) -> None:
        """Go on after a first attempt that raised at once: the caller used it wrongly, or the channel was closed."""
        account = Account(self.line.view, member, self.began, None)
        outcome = self.exchange.classify(error)
        if outcome.kind is not Kind.UNSENT:
            account.end(outcome)
            raise error
        self._adopt(account)
        account.end(outcome)

    def take_over(self, stock: Any, member: Member, *, succeeded: bool) -> AioLeg:
        """Become the course of a call whose first attempt was started, or has succeeded, without one; return that."""
        leg = self.leg = AioLeg(stock, Account(self.line.view, member, self.began, None))
        if succeeded:
            leg.processed = True
            self.finish(None)
        return leg

    def dial(self, account: Account, until: float) -> AioLeg:
        """Start an attempt that has to end, or a stream to begin, by ``until``."""
        method, (metadata, credentials, compression) = self.line.method, self.stock
        channel = self.line.dialer.channel(account.member).of(self.loop)
        writes = self.request.writes and channel.takes_writing(method)
        ends = self.wire_end if method.streams_responses else until
        stock = channel.bound(method)(
            None if writes else self.request.again(),
            timeout=wire_timeout(ends - self.line.view.clock.now()),
            metadata=metadata,
            credentials=credentials,
            compression=compression,
        )
        leg = self.leg = AioLeg(stock, account)
        self._wake()
        if until < ends:
            self._timer = self.line.view.clock.call_at(self.loop, until, partial(too_late, weakref.ref(self), leg))
        self.owed[account] = weakref.ref(stock)
        stock.add_done_callback(partial(over, self.owner, weakref.ref(leg), account, self.owed))
        if writes:
            self.request.write_to(stock)
        if self.cancelled:
            stock.cancel()
        return leg

    def _drive(self, call: Call) -> LoopDriver:
        self._machine = call
        self.loop.call_soon(self.request.keep, self.line.method.serializer)  # when gRPC would: in the next turn
        self._driver = LoopDriver(call, self.exchange, partial(machine_done, self.owner), self.loop)
        return self._driver

    def _adopt(self, account: Account) -> None:
        """Hand an attempt of the success path, which has ended, to the machine."""
        call = Call(self.line.view, self.exchange, self.began, self.deadline)
        driver = self._drive(call)
        account.attempt = attempt = call.adopt(account.member, account.started)
        account.report = lambda outcome: driver.ended(attempt, outcome)
        driver.adopt(attempt, _nothing)

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def newest(self) -> AioLeg | None:
        """Wait for an attempt; None when the call ended without one, or with an error that is no attempt's."""
        while not self.over and (self.leg is None or self.leg.processed):
            await self._change()
        return self.leg if self.error is None else None

    async def stands(self, leg: AioLeg) -> bool:
        """Wait until the end of ``leg`` was dealt with; return whether the call ended with it."""
        while not (leg.processed or self.over):
            await self._change()
        return self.over and self.error is None and leg is self.leg

    async def tell(self, leg: AioLeg, error: BaseException) -> None:
        """Attach what is known of the call to an error of gRPC's that is about to be raised."""
        story = self.story if await self.stands(leg) else None
        if story is not None:
            attach(error, story)

    async def _change(self) -> None:
        if self._moved is None or self._moved.done():
            self._moved = self.loop.create_future()
        try:
            await asyncio.shield(self._moved)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    # -- a stream's first sign of life ---------------------------------------------------------------------------------

    def expose(self, leg: AioLeg) -> bool:
        """Commit to ``leg``, because something of its answer is handed out; False: another attempt replaces it."""
        if leg.committed:
            return True
        if leg is not self.leg or leg.late or self.error is not None:
            return False
        leg.committed = True
        self.request.commit()
        self._disarm()
        if leg.account.report is not None:
            self.exchange.deferred = True  # from here on the end is counted by us, whatever the machine thinks of it
        leg.account.commit(leg.stock)
        return True

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- ends ----------------------------------------------------------------------------------------------------------

    def leg_over(self, leg: AioLeg) -> None:
        """Deal with the end of an attempt."""
        self._disarm()
        stock = leg.stock
        try:
            plain = value_of(stock.code()) is grpc.StatusCode.OK
            provisional = self.line.method.streams_requests and value_of(stock.details()) == PROVISIONAL
            dropped = not plain and leg.dropped
        except Exception as error:  # noqa: BLE001 - somebody's interceptor raised it, so that there is no status
            self._not_plain(leg, self.exchange.classify(error))
            self._dealt_with(leg)
            return
        if dropped:
            self.cancelled = True  # gRPC was quicker than those of us who would have said so
        if provisional:
            self._look_later(leg, self._true_end(leg))
        else:
            self._decide(leg, plain=plain)

    def _look_later(self, leg: AioLeg, look: Coroutine[Any, Any, None]) -> None:
        """Have a task deal with the end of ``leg``; where somebody cancels that, the call is cancelled."""

        def looked(task: asyncio.Task[None]) -> None:
            if task.cancelled() and not leg.processed:
                self.cancelled = True
                self._not_plain(leg, Outcome(Kind.CANCELLED, reason="cancelled"))
                self._dealt_with(leg)

        self._later = self.loop.create_task(look)
        self._later.add_done_callback(looked)

    async def _true_end(self, leg: AioLeg) -> None:
        """Wait for the server's status, which gRPC puts in the place of a failed write's when it comes."""
        for _ in range(PROVISIONAL_LOOKS):
            await asyncio.sleep(0.001)
            if value_of(leg.stock.details()) != PROVISIONAL:
                break
        self._decide(leg, plain=value_of(leg.stock.code()) is grpc.StatusCode.OK)

    def _decide(self, leg: AioLeg, *, plain: bool) -> None:
        account = leg.account
        if plain and account.report is None:
            account.end(_GOOD)
            self.finish(None)
        elif plain and self._judges_results(account):
            self._look_later(leg, self._judge(leg))
            return
        else:
            self._not_plain(leg, Outcome(Kind.SUCCESS, value=leg.stock) if plain else self._outcome(leg.stock))
        self._dealt_with(leg)

    def _dealt_with(self, leg: AioLeg) -> None:
        self.owed.pop(leg.account, None)
        leg.processed = True
        self._wake()

    def _not_plain(self, leg: AioLeg, outcome: Outcome) -> None:
        account = leg.account
        if outcome.kind is Kind.SUCCESS:
            self.expose(leg)
        if leg.committed or self.cancelled:
            if outcome.kind is not Kind.SUCCESS:
                attach(leg.stock, told(self, self._machine, account, outcome))
            account.end(outcome)
            self.finish(None)
            return
        if account.report is None:
            self._adopt(account)
        if leg.late and self._machine is not None and account.attempt is not None:
            outcome = self._machine.timed_out(account.attempt)
        account.end(outcome)

    def _judges_results(self, account: Account) -> bool:
        """Whether a retry condition wants to see the response, which is there only after the status."""
        retry = self.line.view.policy.retry
        single = not self.line.method.streams_responses
        return single and account.report is not None and retry is not None and retry.wants_results

    async def _judge(self, leg: AioLeg) -> None:
        try:
            outcome = Outcome(Kind.SUCCESS, value=await leg.stock)
        except Exception as error:  # noqa: BLE001 - as above
            outcome = self.exchange.classify(error)
        leg.account.end(outcome)
        self._dealt_with(leg)

    def _outcome(self, stock: Any) -> Outcome:
        self.exchange.asked = None if self.leg is None else self.leg.account.member
        try:
            error: BaseException = grpc_aio_errors.of_ended(stock)
        except Exception as raised:  # noqa: BLE001 - as above
            error = raised
        return self.exchange.classify(error)

    def machine_done(self, outcome: Outcome) -> None:
        """Take the end of the call from the machine; what succeeded is over when its attempt is."""
        if outcome.error is not None:
            self.finish(outcome.error)
        elif self.leg is not None and not self.leg.committed:
            self.finish(None)

    def finish(self, error: BaseException | None) -> None:
        """Note the end of the call, once, and tell everybody; ``error`` where it is not that of the newest attempt."""
        if self.over:
            return
        self.over, self.error = True, error
        if self.hold is not None:
            self.hold.flow = None
        self._disarm()
        close = getattr(self.request, "close", None)
        if close is not None:
            close()
        callbacks, self.when_over = self.when_over, []
        self._wake()
        for callback in callbacks:
            callback()

    def cancel(self) -> bool:
        """End the call at the caller's wish; False when it is over."""
        if self.over or self.cancelled:
            return False
        self.cancelled = True
        if self.leg is not None and not self.leg.processed:
            self.leg.stock.cancel()
        else:
            error = grpc_aio_errors.aborted(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)
            self.finish(given_up(error, self, self._machine, None))
        if self._driver is not None:
            self._driver.cancel()
        return True

    def drop(self) -> None:
        """End a call whose caller has dropped it, and with it what reads its requests."""
        self.cancel()
        self.finish(None)  # where the collector was quicker than gRPC, which then does not find this any more

    def lost(self) -> None:
        """Be over, since the loop has ended, which is not touched. Who settles the attempts knows their accounts.

        Callbacks are not called, as those of a stock call are not.
        """
        if self.over:
            return
        self.over = self.cancelled = True
        self.error = grpc_aio_errors.aborted(grpc.StatusCode.CANCELLED, LOOP_ENDED)
        if self.hold is not None:
            self.hold.flow = None
        self.when_over.clear()
        pins = self.line.dialer.pins
        pins.difference_update([call for call in list(pins) if getattr(call, "_course", None) is self])


_GOOD = Outcome(Kind.SUCCESS)


def _nothing() -> None:
    """Nothing to cancel."""
