"""Unary asyncio calls: pick, start the stock call, count its end, hand its response on.

This is the path that must cost nothing beside an RPC of 200 microseconds, so it is written out, as in the blocking
`unary`: all that is made for a call is the object that its caller gets, and what gRPC tells of its end. The course of
the call, which answers every question and makes further attempts, exists from the first question other than for the
response, or from the first thing that is no plain success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import grpc
import grpc.aio

from svcmesh.core.deadline import AMBIENT
from svcmesh.core.loop import NoLoop
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.member import Member
from svcmesh.transport.grpc.aio.calls import AioUnaryUnary
from svcmesh.transport.grpc.aio.errors import CLOSED
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.leg import AioLeg, value_of
from svcmesh.transport.grpc.aio.running import Place, Running
from svcmesh.transport.grpc.line import Line, frozen, wire_timeout
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.subject import key_of

Asked = tuple[Request, Any, Any, Any, bool | None, asyncio.AbstractEventLoop, float, float, int | None]
"""Request, metadata, credentials, compression, whether to wait for an endpoint; loop, its beginning and end, key."""


class UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """A method with one request and one response."""

    def __init__(self, line: Line, running: Running) -> None:
        self._line = line
        self.running = running

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start a call and return it."""
        line = self._line  # read once: discovery may send another policy while the call is under way
        view = line.view
        if line.dialer.closing:
            raise grpc.aio.UsageError(CLOSED)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NoLoop from None
        metadata = None if metadata is None else frozen(metadata)
        now = line.now()
        if timeout is None and AMBIENT.get() is None:
            ends, limit = now + line.total, line.limit
        else:
            ends = view.deadline(now, timeout)
            limit = wire_timeout(min(ends - now, view.per_try))
        sending = Request(request)
        key = key_of(view, metadata, sending) if view.keyed else None
        asked = (sending, metadata, credentials, compression, wait_for_ready, loop, now, ends, key)
        member = view.enter(now, key) if now < ends else None
        if member is None:
            if line.current is not line:
                self._line = line.current
                return self(
                    request,
                    timeout=timeout,
                    metadata=metadata,
                    credentials=credentials,
                    wait_for_ready=wait_for_ready,
                    compression=compression,
                )
            return self._slowly(line, asked)
        try:
            stock = (
                line.dialer.channel(member)
                .of(loop)
                .bound(line.method)(
                    sending, timeout=limit, metadata=metadata, credentials=credentials, compression=compression
                )
            )
        except BaseException as error:  # noqa: BLE001 - raised there, unless another attempt is to follow
            return self._slowly(line, asked, member, error)
        place = self.running.on(loop)
        call = PlainCall(line, asked, member, stock, place)
        place.kept.add(call)
        end = _End(call)
        try:
            stock._cython_call.add_done_callback(end)  # noqa: SLF001 - saves a frame and an object a call
        except AttributeError:
            stock.add_done_callback(lambda _: end())
        return call

    def _slowly(
        self, line: Line, asked: Asked, member: Member | None = None, error: BaseException | None = None
    ) -> Any:
        place = self.running.on(asked[5])
        flow = _course(line, asked, place)
        call = AioUnaryUnary(flow)
        if member is None or error is None:
            flow.begin()
        else:
            flow.not_started(member, error)
        if not flow.over:
            place.dropped.add(call)
        return call


def _course(line: Line, asked: Asked, place: Place) -> AioFlow:
    request, metadata, credentials, compression, patient, loop, began, ends, key = asked
    times = (loop, began, ends, ends)
    stock = (metadata, credentials, compression)
    flow = AioFlow(line, request, stock, bool(patient), times, key)
    flow.owed = place.owed
    return flow


class PlainCall(AioUnaryUnary):
    """A call whose first attempt was started without a course, and which has none as long as it does not need one."""

    _leg: AioLeg | None = None
    _succeeded = False

    def __init__(self, line: Line, asked: Asked, member: Member, stock: Any, place: Place) -> None:
        self._course = None
        self._line = line
        self._asked = asked
        self._member = member
        self._stock = stock
        self._place = place

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the response; awaiting again gives it again. Cancelling who waits cancels the call."""
        if self._course is None:
            try:
                return (yield from self._stock.__await__())
            except asyncio.CancelledError:
                self.cancel()
                raise
            except grpc.aio.AioRpcError:
                pass  # the course, which exists since then, knows what follows
        return (yield from super().__await__())

    def ended(self) -> None:
        """Count the end of the first attempt, or go on after it, before whoever awaits is resumed."""
        self._place.kept.discard(self)
        try:
            well = self._stock._cython_call.is_ok()  # noqa: SLF001 - a tenth of what the public way costs
        except AttributeError:
            well = value_of(self._stock.code()) is grpc.StatusCode.OK
        if well and self._course is None:
            view = self._line.view
            if view.learns:
                view.learn(self._member, self._asked[6])
            self._member.finished += 1
            self._succeeded = True
            return
        flow = self._flow
        if self._leg is not None:
            flow.leg_over(self._leg)

    def _take_course(self) -> AioFlow:
        flow = _course(self._line, self._asked, self._place)
        self._leg = flow.take_over(self._stock, self._member, succeeded=self._succeeded)
        if not self._succeeded:
            self._place.dropped.add(self)
        return flow

    def lost(self) -> None:
        """Settle the first attempt, too, whose account nobody else has."""
        self._flow.lost()
        if self._leg is not None and not self._leg.processed:
            self._leg.processed = True
            self._leg.account.end(Outcome(Kind.CANCELLED))


class _End:
    """What gRPC calls at the end of an attempt; lets go of the call, so that one that is over is no cycle.

    grpcio before 1.84 keeps it, and may tell of the end of a cancelled call twice.
    """

    __slots__ = ("_call",)

    def __init__(self, call: PlainCall) -> None:
        self._call: PlainCall | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.ended()
