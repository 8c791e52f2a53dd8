"""A policy for asyncio channels that are not ours: interceptors, one of each class that gRPC has.

Going on with a call takes an ``await`` here, while callers expect a call object that they can write to at once. So an
attempt is an intercepted call of gRPC's own, on a channel that never connects (see `intercepted`): what it
does instead of an RPC is to go on with the user's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.aio.calls import AioStreamStream, AioStreamUnary, AioUnaryStream, AioUnaryUnary
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.intercepted import Intercepted, Interceptors
from svcmesh.transport.grpc.aio.request import AioStreamedRequest
from svcmesh.transport.grpc.aio.running import Running
from svcmesh.transport.grpc.below import Below, line_of, timed, view_of
from svcmesh.transport.grpc.method import Kind, Method
from svcmesh.transport.grpc.request import CopiedRequest, Request, snapshot

_UNTOUCHED: tuple[Any, Any, Any] = (None, None, None)
"""Metadata, credentials and compression are in the details, which go down as they came."""


def aio_client_interceptors(policy: Policy) -> list[Any]:
    """Return interceptors that put ``policy`` around each call of any asyncio channel, for its ``interceptors=``.

    As `client_interceptors`; but four objects, because gRPC files an interceptor under the first class it has and
    under no other. They share one state, and may serve several channels and loops.

    Raises:
        ConfigError: no policy.

    Calls that are open when their loop is closed count as in flight until the next loop's first call.

    Threads: each loop on its own. Cost: gRPC's own for interceptors, twice; a mesh channel costs nothing.
    """
    view, running = view_of(policy), Running()
    return [kind(view, running) for kind in (UnaryUnary, UnaryStream, StreamUnary, StreamStream)]


class Interceptor:
    """What the four have in common."""

    kind: Kind
    call_class: Any

    def __init__(self, view: View, running: Running) -> None:
        self._view = view
        self._running = running
        method = Method(self.kind, "/svcmesh/below", None, None, registered=False)
        self._stand_in = Intercepted(Interceptors(()), method, _go_on, _untracked)

    def start(self, go: Any, details: Any, request: Request) -> Any:
        """Start a call and return it."""
        place = self._running.on(asyncio.get_running_loop())
        line = line_of(self._view, AioBelow(go, details, self._stand_in), self.kind, details)
        flow = AioFlow.now(line, request, _UNTOUCHED, getattr(details, "timeout", None), patient=False)
        flow.owed = place.owed
        call = self.call_class(flow)
        flow.begin()
        if not flow.over:
            place.dropped.add(call)
        return call


class UnaryUnary(Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    """One request, one response."""

    kind = "unary_unary"
    call_class = AioUnaryUnary

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Start the call and return it."""
        return self.start(continuation, client_call_details, CopiedRequest(request))


class UnaryStream(Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    """One request, streamed responses."""

    kind = "unary_stream"
    call_class = AioUnaryStream

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Start the call and return it."""
        return self.start(continuation, client_call_details, CopiedRequest(request))


class StreamUnary(Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    """Streamed requests, one response."""

    kind = "stream_unary"
    call_class = AioStreamUnary

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Start the call and return it."""
        return self.start(continuation, client_call_details, AioStreamedRequest(request_iterator, snapshot))


class StreamStream(Interceptor, grpc.aio.StreamStreamClientInterceptor):
    """Streamed requests, streamed responses."""

    kind = "stream_stream"
    call_class = AioStreamStream

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Start the call and return it."""
        return self.start(continuation, client_call_details, AioStreamedRequest(request_iterator, snapshot))


class AioBelow(Below):
    """What an asyncio interceptor goes on with."""

    def __init__(self, go: Any, details: Any, stand_in: Intercepted) -> None:
        super().__init__(go, details)
        self._stand_in = stand_in

    def of(self, loop: asyncio.AbstractEventLoop) -> AioBelow:
        """Return this: an interceptor runs on the loop of its call."""
        return self

    def takes_writing(self, _: Method) -> bool:
        """Return False: what is below is given the request when its turn comes."""
        return False

    def __call__(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        """Return a call object at once, which awaits what is below and then stands for it."""
        return self._stand_in((self, timed(self._details, timeout), request))

    async def go_on(self, details: Any, request: Any) -> Any:
        """Await what is below; that is a call, or a bare response that another interceptor has for it."""
        try:
            return await self._go(details, request)
        except grpc.aio.UsageError:  # the channel is closed: no second attempt mends that
            self.closed = True
            raise


async def _go_on(_: Any, bundle: tuple[AioBelow, Any, Any], **__: Any) -> Any:
    """Take what `AioBelow` put in the place of a request."""
    below, details, request = bundle
    return await below.go_on(details, request)


def _untracked(_: Any) -> None:
    """The channel below keeps track of its calls itself."""
