"""The call objects of asyncio, of the classes that interceptors look for, whichever attempt is behind them.

Each question is put to the stock call of the moment, and its answer counts unless another attempt has replaced it. An
object of ours costs two microseconds, a task would cost eight: so nothing here runs unless somebody awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from svcmesh.core.info import CallInfo
from svcmesh.engine.member import NEVER
from svcmesh.transport.grpc.aio.errors import anew
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.leg import AioLeg
from svcmesh.transport.grpc.aio.request import Writer
from svcmesh.transport.grpc.callback import guarded

EOF: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]  # its stubs leave it out
_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."
_FINISHED = "RPC already finished."
_HALF_CLOSED = 'RPC is half closed after calling "done_writing".'


class AioCall(grpc.aio.Call):
    """What all kinds of calls have in common. Threads: its loop's."""

    def __init__(self, flow: AioFlow | None) -> None:
        self._course = flow

    @property
    def _flow(self) -> AioFlow:
        """The course of the call; a subclass may begin without one."""
        if self._course is None:
            self._course = self._take_course()
        return self._course

    def _take_course(self) -> AioFlow:
        raise NotImplementedError

    @property
    def __svcmesh_info__(self) -> CallInfo | None:
        """What `svcmesh.info` returns for this call, once it is over and was no plain success."""
        return self._flow.story

    def cancelled(self) -> bool:
        """Whether the call ended CANCELLED, by whose wish ever."""
        flow = self._flow
        if flow.over and flow.error is None and flow.leg is not None:
            return bool(flow.leg.stock.cancelled())
        if isinstance(flow.error, grpc.aio.AioRpcError):
            return flow.error.code() is grpc.StatusCode.CANCELLED
        return flow.cancelled and (flow.leg is None or flow.leg.stock.cancelled() or flow.error is not None)

    def done(self) -> bool:
        """Whether the call is over."""
        flow = self._flow
        return flow.over or (flow.cancelled and flow.leg is not None and flow.leg.stock.done())

    def time_remaining(self) -> float | None:
        """Return the seconds left of the call's deadline; None when it has none."""
        flow = self._flow
        ends = flow.wire_end if flow.line.method.streams_responses else flow.deadline
        return None if ends == NEVER else max(0.0, ends - flow.line.view.clock.now())

    def cancel(self) -> bool:
        """Cancel the attempt under way, and any that would follow; False when the call is over."""
        return self._flow.cancel()

    def lost(self) -> None:
        """Be over, since the loop has ended before the call did."""
        if self._course is not None:
            self._course.lost()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have ``callback`` called with this call at its end, or at once when it is over."""
        flow = self._flow
        if flow.over:
            callback(self)
            return
        pins = flow.line.dialer.pins
        pins.add(self)  # who waits for the end wants the call to go on
        flow.when_over.append(lambda: pins.discard(self))
        flow.when_over.append(guarded(lambda: callback(self)))

    async def initial_metadata(self) -> Any:
        """Await the initial metadata. After that the call is not repeated any more."""
        while (leg := await self._flow.newest()) is not None:
            found = await leg.stock.initial_metadata()
            if not leg.stock.done():
                if self._flow.expose(leg):
                    return found
            elif await self._flow.stands(leg):
                return found
        return self._error().initial_metadata()

    async def trailing_metadata(self) -> Any:
        """Await the trailing metadata."""
        leg = await self._last()
        return self._error().trailing_metadata() if leg is None else await leg.stock.trailing_metadata()

    async def code(self) -> Any:
        """Await the status code."""
        leg = await self._last()
        return self._error().code() if leg is None else await leg.stock.code()

    async def details(self) -> Any:
        """Await the status details."""
        leg = await self._last()
        return self._error().details() if leg is None else await leg.stock.details()

    async def debug_error_string(self) -> Any:
        """Await gRPC's own description of the end."""
        leg = await self._last()
        return self._error().debug_error_string() if leg is None else await leg.stock.debug_error_string()

    async def wait_for_connection(self) -> None:
        """Wait until the call has reached a server; a unary call until it is over. Raises what it fails with."""
        while (leg := await self._flow.newest()) is not None:
            try:
                await leg.stock.wait_for_connection()
            except grpc.aio.AioRpcError:
                if await self._flow.stands(leg):
                    raise
            else:
                if not leg.stock.done() or await self._flow.stands(leg):
                    return
        self._raise()

    async def _last(self) -> AioLeg | None:
        """Wait for the end; return the attempt that the call ended with, None when its end is no attempt's."""
        while (leg := await self._flow.newest()) is not None:
            await leg.stock.code()
            if await self._flow.stands(leg):
                return leg
        return None

    def _error(self) -> Any:
        """Return what the call ended with where that is no attempt's own end; somebody's own error is raised."""
        error = self._flow.error
        if error is not None and not isinstance(error, grpc.aio.AioRpcError):
            raise error  # as gRPC does it: an interceptor's own, which has no code
        return error

    def _raise(self) -> None:
        """Raise what the call ended with where that is no attempt's own end."""
        if self._flow.cancelled:
            raise asyncio.CancelledError
        if self._flow.error is not None:
            raise anew(self._flow.error)

    async def _raise_status(self) -> None:
        """Raise what a call that is over ended with, unless it ended well."""
        self._raise()
        leg = self._flow.leg
        if self._flow.cancelled:
            raise asyncio.CancelledError
        if leg is not None and await leg.stock.code() is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                await leg.stock.code(),
                await leg.stock.initial_metadata(),
                await leg.stock.trailing_metadata(),
                details=await leg.stock.details(),
                debug_error_string=await leg.stock.debug_error_string(),
            )

    def __str__(self) -> str:
        state = "over" if self._flow.over else "running"
        return f"<{type(self).__name__} of {self._flow.line.name}, {state}>"

    __repr__ = __str__


class SingleResponse(AioCall):
    """A call that is awaited for its response."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the response; awaiting again gives it again. Cancelling who waits cancels the call."""
        flow = self._flow
        while True:
            leg = flow.leg
            if leg is None or leg.processed or flow.over:
                leg = yield from flow.newest().__await__()
                if leg is None:
                    self._raise()
                    raise asyncio.InvalidStateError(_FINISHED)
            try:
                response = yield from leg.stock.__await__()
            except asyncio.CancelledError:
                flow.cancel()
                raise
            except grpc.aio.AioRpcError:
                if (yield from flow.stands(leg).__await__()):
                    raise
            else:
                if flow.over or (yield from flow.stands(leg).__await__()):
                    return response


class StreamedResponse(AioCall):
    """A call whose messages are iterated over or read; dropped half-way, it is cancelled."""

    def __init__(self, flow: AioFlow) -> None:
        super().__init__(flow)
        self._reads: bool | None = None
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the one iterator over the messages."""
        self._choose(reads=False)
        if self._iterator is None:
            self._iterator = _messages(self, self._flow)
        return self._iterator

    async def read(self) -> Any:
        """Await the next message, or `grpc.aio.EOF` after the last."""
        if not self.done():
            self._choose(reads=True)
        elif self._reads is False:
            await self._raise_status()  # it was iterated over, to its end
            return EOF
        leg = self._flow.leg
        if leg is not None and leg.committed:
            return await self._read_of(leg)
        return await self.next_message()

    async def next_message(self) -> Any:
        """Await the next message, or EOF after the last, from whichever attempt brings one."""
        flow = self._flow
        while (leg := await flow.newest()) is not None:
            try:
                message = await self._read_of(leg)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not leg.late or (task is not None and task.cancelling()):
                    flow.cancel()
                    raise
                await flow.stands(leg)  # our timer cut this attempt off; what comes next is up to the machine
                continue
            except grpc.aio.AioRpcError:
                if await flow.stands(leg):
                    raise
                continue
            if message is EOF:
                if await flow.stands(leg):
                    return message
            elif flow.expose(leg):
                return message
            else:
                await flow.stands(leg)
        self._raise()
        return EOF

    async def _read_of(self, leg: AioLeg) -> Any:
        try:
            return await (leg.stock.read() if self._reads or leg.reads else anext(leg.messages()))
        except StopAsyncIteration:
            return EOF
        except grpc.aio.AioRpcError as error:
            await self._flow.tell(leg, error)
            raise

    def _choose(self, *, reads: bool) -> None:
        if self._reads is None:
            self._reads = reads
        elif self._reads is not reads:
            raise grpc.aio.UsageError(_MIXED)

    def __del__(self) -> None:
        """Cancel the call that nobody can read any more; gRPC itself does so for sync calls only."""
        flow = getattr(self, "_course", None)
        if flow is not None and not flow.over and not flow.loop.is_closed():
            flow.loop.call_soon_threadsafe(flow.drop)


class StreamedRequests(AioCall):
    """A call whose requests are written, unless an iterator was given for them."""

    writer: Writer | None = None

    @property
    def _done_writing_flag(self) -> bool:
        """What gRPC's intercepted calls ask those below them for, by this name."""
        return self._flow.request.exhausted if self.writer is None else self.writer.finished

    async def write(self, request: Any) -> None:
        """Send a message; returns when gRPC has taken it."""
        writer = self._writer()
        flow = self._flow
        if self.done():
            if flow.leg is None and not flow.cancelled:
                self._raise()  # refused; a stock call always begins, so that who writes first is told of its end, too
            raise asyncio.InvalidStateError(_FINISHED)
        if writer.finished:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        try:
            sent = await writer.write(request)
        except asyncio.CancelledError:
            flow.cancel()
            raise
        if not sent:
            await self._raise_status()

    async def done_writing(self) -> None:
        """Say that there will be no more messages; twice is fine."""
        writer = self._writer()
        if not self.done():
            writer.finish()

    def _writer(self) -> Writer:
        if self.writer is None:
            raise grpc.aio.UsageError(_MIXED)
        return self.writer


async def _messages(call: StreamedResponse, flow: AioFlow) -> AsyncIterator[Any]:
    message = await call.next_message()
    if message is EOF:
        await call._raise_status()  # noqa: SLF001 - of the same file; somebody may have read the end before
        return
    yield message
    leg = flow.leg
    if leg is not None:
        try:
            if (read := leg.reads) is None:
                async for message in leg.messages():
                    yield message
            else:
                while (message := await read()) is not EOF:
                    yield message
                await leg.stock.code()
                await leg.stock.read()  # raises, unless the call ended well
        except grpc.aio.AioRpcError as error:
            await flow.tell(leg, error)
            raise
        await flow.stands(leg)  # whoever sees the end may rely on its being counted


class AioUnaryUnary(SingleResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one response."""


class AioUnaryStream(StreamedResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, streamed responses."""


class AioStreamUnary(StreamedRequests, SingleResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """Streamed requests, one response."""


class AioStreamStream(StreamedRequests, StreamedResponse, grpc.aio.StreamStreamCall[Any, Any]):
    """Streamed requests, streamed responses."""
