"""Unary asyncio calls: pick, begin, count the end, hand the response on.

This is the path that must cost nothing beside an RPC of 200 microseconds, so it is written out, as in the blocking
`unary`: all that is made for a call is the object that its caller gets, where a stock channel makes one, too, and the
task that sends and receives. What a stock call object is good for, see `lean`, and the course of the call, which
answers every question and makes further attempts, exist from the first question other than for the response, or from
the first thing that is no plain success. Collecting garbage was a third of what this saved: each object of a call that
is open makes Python look through all of them the sooner.
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
from svcmesh.transport.grpc.aio.channels import LoopChannel
from svcmesh.transport.grpc.aio.errors import CLOSED
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.lean import EOF, LeanMethod
from svcmesh.transport.grpc.aio.leg import LOCALLY_CANCELLED, AioLeg
from svcmesh.transport.grpc.aio.running import Place, Running
from svcmesh.transport.grpc.line import Line, frozen, wire_timeout
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.subject import key_of

Asked = tuple[Any, Any, Any, Any, bool | None, asyncio.AbstractEventLoop, float, float, int | None]
"""Message, metadata, credentials, compression, whether to wait for an endpoint; loop, its beginning and end, key."""
Started = tuple[LoopChannel, LeanMethod, Any, tuple[Any, ...]]
"""Where the first attempt was started, and how; gRPC's own call, and the metadata that it sends."""


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
        key = key_of(view, line.method, metadata, Request(request)) if view.keyed else None
        asked = (request, metadata, credentials, compression, wait_for_ready, loop, now, ends, key)
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
            channel = line.dialer.channel(member).of(loop)
            lean = channel.lean(line.method)
            if lean is None:
                return self._slowly(line, asked, member)
            sent = () if metadata is None and compression is None else lean.metadata(metadata, compression)
            begun = lean.begun(limit, credentials)
        except BaseException as error:  # noqa: BLE001 - raised there, unless another attempt is to follow
            return self._slowly(line, asked, member, error)
        place = self.running.on(loop)
        call = PlainCall(line, asked, member, (channel, lean, begun, sent), place)
        place.kept.add(call)
        call.response = asyncio.Task(call.run(), loop=loop)  # a factory of the loop may begin it before it is known
        return call

    def _slowly(
        self, line: Line, asked: Asked, member: Member | None = None, error: BaseException | None = None
    ) -> Any:
        place = self.running.on(asked[5])
        flow = _course(line, asked, place)
        call = AioUnaryUnary(flow)
        if member is None:
            flow.begin()
        elif error is None:
            flow.begin_at(member)
        else:
            flow.not_started(member, error)
        if not flow.over:
            place.dropped.add(call)
        return call


def _course(line: Line, asked: Asked, place: Place) -> AioFlow:
    message, metadata, credentials, compression, patient, loop, began, ends, key = asked
    times = (loop, began, ends, ends)
    stock = (metadata, credentials, compression)
    flow = AioFlow(line, Request(message), stock, bool(patient), times, key)
    flow.owed = place.owed
    return flow


class PlainCall(AioUnaryUnary):
    """A call whose first attempt was started without a course, and which has none as long as it does not need one.

    Attributes:
        channel: that the first attempt is on. response: the task that sends and receives.
    """

    response: asyncio.Task[Any]
    _leg: AioLeg | None = None
    _sent: Any = None
    _succeeded = False

    def __init__(self, line: Line, asked: Asked, member: Member, started: Started, place: Place) -> None:
        self._course = None
        self._line = line
        self._asked = asked
        self._member = member
        self.channel, self._lean, self._begun, self._metadata = started
        self._place = place

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the response; awaiting again gives it again. Cancelling who waits cancels the call."""
        if self._course is None:
            try:
                response = yield from self.response
            except asyncio.CancelledError:
                self.cancel()
                raise
            if response is not EOF:
                return response
        return (yield from super().__await__())  # the course, which exists now, knows what follows

    async def run(self) -> Any:
        """Make the first attempt, as gRPC's own call objects do; return its response, EOF where there is none.

        Its end is counted before whoever awaits it is resumed; where there is a course, that was told of it already.
        """
        lean, begun = self._lean, self._begun
        try:
            self._sent = request = lean.request(self._asked[0])
            if self._course is not None:
                self._course.request.wire = request
            answer = await lean.answer(begun, request, self._metadata)
        except GeneratorExit:
            raise  # the loop has ended, and `lost` settles the call
        except BaseException as error:
            if not begun.done():
                begun.cancel(LOCALLY_CANCELLED)
            self.ended()
            if isinstance(error, asyncio.CancelledError):
                return EOF
            raise  # gRPC did not take the arguments
        if self._course is None:
            self.ended()
        return lean.response(answer) if begun.is_ok() else EOF

    def ended(self) -> None:
        """Count the end of the first attempt, or go on after it, before whoever awaits is resumed."""
        self._place.kept.discard(self)
        if self._course is None and self._begun.is_ok():
            view = self._line.view
            if view.learns:
                view.learn(self._member, self._asked[6])
            self._member.finished += 1
            self._succeeded = True
            return
        flow = self._flow
        if self._leg is not None and not self._leg.processed:
            flow.leg_over(self._leg)

    @property
    def never_began(self) -> bool:
        """Whether the task was cancelled before its first step; see `leg.never_began`. Any thread."""
        task = getattr(self, "response", None)  # another thread may look before it is there
        return task is not None and task.cancelled() and not self._begun.done()

    def _take_course(self) -> AioFlow:
        self._course = flow = _course(self._line, self._asked, self._place)
        flow.request.wire = self._sent
        loop = self._asked[5]
        stock = self._lean.stock(self._begun, self._metadata, self.response, loop)
        self._leg = flow.take_over(stock, self._member, succeeded=self._succeeded)
        if not self._succeeded:
            self._place.dropped.add(self)
            if not self._begun.done():
                self._begun.add_done_callback(_End(self))
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
