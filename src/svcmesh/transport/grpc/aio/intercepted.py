"""The user's asyncio interceptors, run around whole calls: once each, however many attempts there are.

gRPC offers no function that puts interceptors around a channel. It runs those that a channel was made with, and it
has four classes of call objects for that, with rules of their own for cancelling, writing and metadata. Rather than
have such rules twice, each method gets a stock channel that never connects. Its last interceptor is ours, which does
not go on below but starts the mesh's call. So whatever callers and interceptors see is gRPC's own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from svcmesh.core.loop import running_loop
from svcmesh.transport.grpc.generic import StreamStreamBase, StreamUnaryBase
from svcmesh.transport.grpc.method import Kind, Method

insecure_channel: Any = getattr(sys.modules.get("grpc.aio._channel"), "insecure_channel", grpc.aio.insecure_channel)
"""gRPC's own, from where it is defined: instrumentation replaces the name in `grpc.aio`, maybe before this is
imported, and would see each call once more."""

NOWHERE = "ipv4:127.0.0.1:1"
"""Where the channels that run interceptors would connect to, if they ever did."""

Start = Callable[..., Awaitable[Any]]
"""Starts what is called in place of an RPC: takes the method's path, then what the stock multicallables take."""


class _Last:
    """The innermost interceptor of one method: starts the call as the interceptors before it left it."""

    def __init__(self, start: Start) -> None:
        self._start = start

    async def go(self, details: Any, request: Any) -> Any:
        """Start the call and return it; it runs at once, as gRPC's own does."""
        return await self._start(
            details.method,
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


class _LastUnaryUnary(_Last, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self.go(client_call_details, request)


class _LastUnaryStream(_Last, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self.go(client_call_details, request)


class _LastStreamUnary(_Last, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self.go(client_call_details, request_iterator)


class _LastStreamStream(_Last, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self.go(client_call_details, request_iterator)


_KINDS: dict[type, tuple[Kind, Any]] = {
    grpc.aio.UnaryUnaryClientInterceptor: ("unary_unary", _LastUnaryUnary),
    grpc.aio.UnaryStreamClientInterceptor: ("unary_stream", _LastUnaryStream),
    grpc.aio.StreamUnaryClientInterceptor: ("stream_unary", _LastStreamUnary),
    grpc.aio.StreamStreamClientInterceptor: ("stream_stream", _LastStreamStream),
}
"""In gRPC's order: an interceptor of several classes counts for the first of them alone."""
_LAST: dict[Kind, Any] = dict(_KINDS.values())


class Interceptors:
    """The interceptors of one mesh channel.

    Raises:
        ValueError: one of them is of no class that gRPC knows, in gRPC's words.
    """

    def __init__(self, interceptors: Any) -> None:
        self._given = tuple(interceptors or ())
        self._kinds = {_kind_of(interceptor) for interceptor in self._given}

    def concern(self, kind: Kind) -> bool:
        """Whether calls of this kind are to be intercepted."""
        return kind in self._kinds

    def channel(self, kind: Kind, start: Start) -> Any:
        """Return a stock channel for the running loop that has ``start`` called in place of an RPC of this kind."""
        return insecure_channel(NOWHERE, interceptors=[*self._given, _LAST[kind](start)])


class Intercepted:
    """What calls of one method through a mesh channel go through when they are intercepted. Threads: each loop's own.

    Args:
        interceptors: the user's. method: what is called. start: starts the call itself.
        track: takes note of each call, for the channel's end.
    """

    def __init__(
        self, interceptors: Interceptors, method: Method, start: Start, track: Callable[[Any], object]
    ) -> None:
        self._interceptors = interceptors
        self._method = method
        self._start = start
        self._track = track
        self._by_loop: dict[asyncio.AbstractEventLoop, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call; arguments as of the stock multicallable."""
        call = self._stock(running_loop())(*args, **kwargs)
        self._track(call)
        return call

    def _stock(self, loop: asyncio.AbstractEventLoop) -> Any:
        found = self._by_loop.get(loop)
        if found is None:
            for ended in [other for other in list(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(ended, None)
            channel, method = self._interceptors.channel(self._method.kind, self._start), self._method
            make = getattr(channel, method.kind)
            found = self._by_loop[loop] = make(method.path, method.serializer, method.deserializer)
        return found


class InterceptedUnaryUnary(Intercepted, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """One request, one response."""


class InterceptedUnaryStream(Intercepted, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    """One request, streamed responses."""


class InterceptedStreamUnary(Intercepted, StreamUnaryBase):
    """Streamed requests, one response."""


class InterceptedStreamStream(Intercepted, StreamStreamBase):
    """Streamed requests, streamed responses."""


INTERCEPTED: dict[Kind, Any] = {
    "unary_unary": InterceptedUnaryUnary,
    "unary_stream": InterceptedUnaryStream,
    "stream_unary": InterceptedStreamUnary,
    "stream_stream": InterceptedStreamStream,
}


def _kind_of(interceptor: Any) -> Kind:
    for base, (kind, _) in _KINDS.items():
        if isinstance(interceptor, base):
            return kind
    names = " or ".join(base.__name__ for base in _KINDS)
    raise ValueError(f"Interceptor {interceptor} must be {names}. ")
