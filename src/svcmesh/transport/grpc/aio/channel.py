"""The asyncio channel of a service: a `grpc.aio.Channel` whose every call goes to the endpoint that is best for it."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from svcmesh.core.here import LivesHere
from svcmesh.core.loop import running_loop
from svcmesh.transport.grpc.aio.calls import AioStreamStream, AioStreamUnary, AioUnaryStream
from svcmesh.transport.grpc.aio.channels import LoopChannels
from svcmesh.transport.grpc.aio.errors import CLOSED
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.intercepted import INTERCEPTED, Interceptors
from svcmesh.transport.grpc.aio.reports import wrapped
from svcmesh.transport.grpc.aio.request import AioStreamedRequest, Writer
from svcmesh.transport.grpc.aio.running import Running
from svcmesh.transport.grpc.aio.unary import UnaryUnary
from svcmesh.transport.grpc.channels import Dialer
from svcmesh.transport.grpc.connectivity import aggregate
from svcmesh.transport.grpc.generic import StreamStreamBase, StreamUnaryBase
from svcmesh.transport.grpc.line import Line, frozen
from svcmesh.transport.grpc.method import CarryingMethod, Kind, Method, Transform
from svcmesh.transport.grpc.multicallables import Multicallables
from svcmesh.transport.grpc.reports import reporting
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.settings import Settings, Target
from svcmesh.transport.grpc.wrong_settings import refuse_wrong

STATE_PERIOD = 0.05
"""Seconds between looks at the connections, while somebody waits for a change of state."""


class _Multicallable:
    """A method; calling it starts a call."""

    def __init__(self, line: Line, running: Running) -> None:
        self._line = line
        self._running = running

    def _begin(self, call_class: Any, request: Request, timeout: float | None, stock: Any, patient: bool | None) -> Any:
        place = self._running.on(running_loop())
        flow = AioFlow.now(self._line, request, stock, timeout, bool(patient))
        flow.owed = place.owed
        call = call_class(flow)
        flow.begin()
        if not flow.over:
            place.dropped.add(call)
        return call

    def _requests(self, source: Any) -> tuple[AioStreamedRequest, Writer | None]:
        serializer = self._line.method.serializer
        if source is not None:
            return AioStreamedRequest(source, serializer), None
        writer = Writer(serializer)
        return AioStreamedRequest(writer, None), writer


class UnaryStream(_Multicallable, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    """A method with one request and streamed responses."""

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
        stock = (frozen(metadata), credentials, compression)
        return self._begin(AioUnaryStream, Request(request), timeout, stock, wait_for_ready)


class StreamUnary(_Multicallable, StreamUnaryBase):
    """A method with streamed requests and one response."""

    call_class: Any = AioStreamUnary

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start a call and return it; without an iterator its requests are written."""
        stock = (frozen(metadata), credentials, compression)
        requests, writer = self._requests(request_iterator)
        call = self._begin(self.call_class, requests, timeout, stock, wait_for_ready)
        if writer is not None:
            call.writer = writer
        return call


class StreamStream(StreamUnary, StreamStreamBase):
    """A method with streamed requests and streamed responses."""

    call_class = AioStreamStream


_CLASSES: dict[Kind, Any] = {
    "unary_unary": UnaryUnary,
    "unary_stream": UnaryStream,
    "stream_unary": StreamUnary,
    "stream_stream": StreamStream,
}


class MeshAioChannel(LivesHere, grpc.aio.Channel):
    """A channel to a service, for any number of event loops.

    Args:
        service: whom it goes to; kept alive as long as the channel, its multicallables and its calls are.
        credentials, options, compression: as the stock channels take them; None for plain text.
        interceptors: run around each call, once, whatever attempts it takes.

    Raises:
        TypeError, ValueError, AttributeError: settings that the stock channel would refuse, in its own words.

    Threads: each loop on its own thread.
    """

    def __init__(
        self,
        service: Target,
        credentials: grpc.ChannelCredentials | None = None,
        options: Any = None,
        compression: grpc.Compression | None = None,
        interceptors: Any = None,
    ) -> None:
        settings = Settings.of(service.name, credentials, options, compression)
        refuse_wrong(settings)
        self._interceptors = Interceptors(interceptors)
        self._view = service.view
        self._running = Running()
        service.view.runtime.leftovers.add(self._running)
        make = reporting(service.view, partial(LoopChannels, self._running), wrapped)
        self._dialer = Dialer(service.view.cluster, settings, make, service)
        self._multicallables = Multicallables()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def unary_unary(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with one request and one response."""
        return self._multicallable("unary_unary", method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with one request and streamed responses."""
        return self._multicallable(
            "unary_stream", method, request_serializer, response_deserializer, _registered_method
        )

    def stream_unary(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with streamed requests and one response."""
        return self._multicallable(
            "stream_unary", method, request_serializer, response_deserializer, _registered_method
        )

    def stream_stream(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with streamed requests and streamed responses."""
        return self._multicallable(
            "stream_stream", method, request_serializer, response_deserializer, _registered_method
        )

    def _multicallable(self, *key: Any) -> Any:
        if not self._interceptors.concern(key[0]):
            return self._own(*key)
        start = partial(self._start, key)
        return INTERCEPTED[key[0]](self._interceptors, Method(*key), start, self._running.add)

    def _own(self, *key: Any) -> Any:
        return self._multicallables.get(key, self._made)

    def _made(self, key: tuple[Any, ...]) -> Any:
        return _CLASSES[key[0]](Line(self._view, self._dialer, CarryingMethod(*key)), self._running)

    async def _start(self, key: tuple[Any, ...], path: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a call for an interceptor, which may have put another ``path`` in the place of the one asked for."""
        kind, asked, *rest = key
        path = asked if path == _encoded(asked) else path
        return self._own(kind, path, *rest)(*args, **kwargs)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """The caller's loop, None outside of one; a stock channel has under this name the one that it was made on."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None

    # -- state ---------------------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the best state that any endpoint's connection has on this loop."""
        if self._dialer.closing:
            return grpc.ChannelConnectivity.SHUTDOWN
        loop = running_loop()
        if try_to_connect:
            more = self._dialer.dial_more(self._view, partial(LoopChannels.state_on, loop=loop))
            if more is not None:
                more.of(loop)
        channels = [channel for kept in self._dialer.kept() if (channel := kept.here(loop)) is not None]
        return aggregate(channel.get_state(try_to_connect) for channel in channels)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another one than ``last_observed_state``.

        Raises:
            grpc.aio.UsageError: the channel is closed, so that there is nothing to wait for.
        """
        if self._dialer.closing:
            raise grpc.aio.UsageError(CLOSED)
        while self.get_state() is last_observed_state:  # noqa: ASYNC110 - connections are asked, none of them tells
            await asyncio.sleep(STATE_PERIOD)

    async def channel_ready(self) -> None:
        """Wait until some endpoint is connected; nobody being there yet is waited for."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                raise grpc.aio.UsageError(CLOSED)
            await asyncio.sleep(STATE_PERIOD)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, wait up to ``grace`` seconds for running ones, cancel the rest, close all connections.

        Raises:
            ValueError: a negative ``grace``.
        """
        if grace and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        if self._dialer.closing:
            return
        loop = running_loop()
        self._dialer.closing = True  # attempts of calls that run may still follow
        self._running.settle()
        running = self._running.all()
        if grace and running:
            ends = [loop.create_task(_ended(call)) for call in running]
            _, late = await asyncio.wait(ends, timeout=grace)
            for end in late:
                end.cancel()
        for call in running:
            call.cancel()
        for kept in self._dialer.taken():
            await kept.aclose(loop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel at once."""
        await self.close()


def _set(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


async def _ended(call: Any) -> None:
    over = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda _: _set(over))
    await over


def _encoded(path: Any) -> bytes:
    return path if isinstance(path, bytes) else str(path).encode()
