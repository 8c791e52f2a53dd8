"""Tools that put themselves in front of httpx's stock transport must see our calls, too.

Tracing (OpenTelemetry's ``HTTPXClientInstrumentor().instrument()``) and mocking (pytest-httpx, respx) replace
``httpx.HTTPTransport.handle_request`` on the class. A transport of another class goes by unseen: the spans of an
application would end, and its tests would dial, the day it takes svcmesh. So while that method is not the stock one,
our calls are made through it, once for each logical request, on a stock transport whose pool is ours.

Cost: two attribute reads for a call while nobody has replaced anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

import httpcore
import httpx

Send = Callable[[httpx.Request], httpx.Response]
AsyncSend = Callable[[httpx.Request], Awaitable[httpx.Response]]


def _stock(method: Any) -> Any:
    """Return httpx's own method, behind whatever wraps it already; None where it has been replaced altogether.

    Wrappers take over the name and ``__module__`` of what they wrap, but not where they were written.
    """
    found = inspect.unwrap(method)
    written = found.__globals__.get("__name__") if isinstance(found, FunctionType) else None
    return found if written == f"{httpx.__name__}._transports.default" else None


STOCK = _stock(httpx.HTTPTransport.handle_request)
ASYNC_STOCK = _stock(httpx.AsyncHTTPTransport.handle_async_request)


class Shown(httpx.HTTPTransport):
    """What a tool is shown: a stock transport for one request, which ``send`` sends in place of its pool."""

    def __init__(self, send: Send, request: httpx.Request) -> None:  # no super(): there is nothing of it to be made
        self._pool: Any = _Pool(send, request)


class AsyncShown(httpx.AsyncHTTPTransport):
    """The same for asyncio."""

    def __init__(self, send: AsyncSend, request: httpx.Request) -> None:
        self._pool: Any = _Pool(send, request)


def shown(send: Send, request: httpx.Request) -> httpx.Response:
    """Send ``request`` in the sight of whoever has replaced the stock method."""
    return Shown(send, request).handle_request(request)


async def shown_async(send: AsyncSend, request: httpx.Request) -> httpx.Response:
    """Send ``request`` in the sight of whoever has replaced the stock method."""
    return await AsyncShown(send, request).handle_async_request(request)


def unseen(transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
    """Send ``request`` through a transport in place of ours: tools have seen it already, and are not told twice."""
    if STOCK is not None and type(transport) is httpx.HTTPTransport:
        return STOCK(transport, request)  # type: ignore[no-any-return]
    return transport.handle_request(request)


async def unseen_async(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Send ``request`` through a transport in place of ours: tools have seen it already, and are not told twice."""
    if ASYNC_STOCK is not None and type(transport) is httpx.AsyncHTTPTransport:
        return await ASYNC_STOCK(transport, request)  # type: ignore[no-any-return]
    return await transport.handle_async_request(request)


class _Pool:
    """Takes httpcore's request for the one that it was made from: that has our answer to it."""

    def __init__(self, send: Any, request: httpx.Request) -> None:
        self._send = send
        self._request = request

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        return _answer(self._send(self._request))

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        return _answer(await self._send(self._request))

    def close(self) -> None:
        """Close nothing: the connections are not this pool's."""

    async def aclose(self) -> None:
        """Close nothing."""


def _answer(response: httpx.Response) -> httpcore.Response:
    stream: Any = response.stream
    return httpcore.Response(
        response.status_code, headers=response.headers.raw, content=stream, extensions=response.extensions
    )
