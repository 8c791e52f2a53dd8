"""httpx2 beside httpx: the same words in classes of its own, so requests, answers and errors are put into the other's.

Our transports speak httpx. A request that comes from a client of httpx2 is turned into one of httpx, and what becomes
of it is turned back; a transport of httpx2 that is given as ``inner`` is wrapped the other way round. Bodies are not
copied, and extensions go along as they are. This module is imported when the first object of httpx2 is seen.

Cost: about 40 us a request; where ``httpx2.alias_httpx()`` has been called, httpx is httpx2 and there is nothing to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any, Self

import httpx
import httpx2

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints, SvcmeshError
from svcmesh.transport.http.errors import (
    HTTPConnectDeadlineExceeded,
    HTTPPoolDeadlineExceeded,
    HTTPRefusal,
    HTTPWriteDeadlineExceeded,
)


class HTTP2NoEndpoints(HTTPRefusal, NoEndpoints, httpx2.ConnectError):
    """`HTTPNoEndpoints` for callers of httpx2."""


class HTTP2CircuitOpen(HTTPRefusal, CircuitOpen, httpx2.ConnectError):
    """`HTTPCircuitOpen` for callers of httpx2."""


class HTTP2LimitExceeded(HTTPRefusal, LimitExceeded, httpx2.PoolTimeout):
    """`HTTPLimitExceeded` for callers of httpx2."""


class HTTP2DeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx2.ReadTimeout):
    """`HTTPDeadlineExceeded` for callers of httpx2."""


class HTTP2ConnectDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx2.ConnectTimeout):
    """`HTTPConnectDeadlineExceeded` for callers of httpx2."""


class HTTP2WriteDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx2.WriteTimeout):
    """`HTTPWriteDeadlineExceeded` for callers of httpx2."""


class HTTP2PoolDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx2.PoolTimeout):
    """`HTTPPoolDeadlineExceeded` for callers of httpx2."""


_REFUSALS: dict[type[SvcmeshError], type[HTTPRefusal]] = {
    HTTPConnectDeadlineExceeded: HTTP2ConnectDeadlineExceeded,
    HTTPWriteDeadlineExceeded: HTTP2WriteDeadlineExceeded,
    HTTPPoolDeadlineExceeded: HTTP2PoolDeadlineExceeded,
    NoEndpoints: HTTP2NoEndpoints,
    CircuitOpen: HTTP2CircuitOpen,
    LimitExceeded: HTTP2LimitExceeded,
    DeadlineExceeded: HTTP2DeadlineExceeded,
}


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body for both libraries; it is read in the colour that it has, and its errors are those of ``library``."""

    def __init__(self, stream: Any, library: ModuleType, request: Any) -> None:
        self._stream = stream
        self._library = library
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what the stream has."""
        with _errors_of(self._library, self._request):
            yield from self._stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Hand on what the stream has."""
        with _errors_of(self._library, self._request):
            async for part in self._stream:
                yield part

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


def handle(transport: httpx.BaseTransport, request: httpx2.Request) -> httpx2.Response:
    """Send a request of httpx2 through ``transport``."""
    with _errors_of(httpx2, request):
        answer = transport.handle_request(_incoming(request))
    return _response(answer, httpx2, request)  # type: ignore[no-any-return]


async def handle_async(transport: httpx.AsyncBaseTransport, request: httpx2.Request) -> httpx2.Response:
    """Send a request of httpx2 through ``transport``."""
    with _errors_of(httpx2, request):
        answer = await transport.handle_async_request(_incoming(request))
    return _response(answer, httpx2, request)  # type: ignore[no-any-return]


class Adopted(httpx.BaseTransport):
    """A blocking transport of httpx2, as one of httpx."""

    def __init__(self, inner: httpx2.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` through it."""
        with _errors_of(httpx, request):
            answer = self._inner.handle_request(_outgoing(request))
        return _response(answer, httpx, request)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def __enter__(self) -> Self:
        """Enter it."""
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave it."""
        self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncAdopted(httpx.AsyncBaseTransport):
    """An awaiting transport of httpx2, as one of httpx."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` through it."""
        with _errors_of(httpx, request):
            answer = await self._inner.handle_async_request(_outgoing(request))
        return _response(answer, httpx, request)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        """Enter it."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave it."""
        await self._inner.__aexit__(exc_type, exc_value, traceback)


def of_httpx(error: Exception, library: ModuleType, request: Any = None) -> Exception:
    """Return an error of either library as one of ``library``; what belongs to neither is returned as it is."""
    if isinstance(error, SvcmeshError):
        return _refusal(error, request) if library is httpx2 else error
    for kind in type(error).__mro__:
        counterpart = getattr(library, kind.__name__, None) if kind.__module__ in {"httpx", "httpx2"} else None
        if counterpart is not None:
            found: Exception = counterpart.__new__(counterpart)
            found.args = error.args
            found.__dict__.update(error.__dict__ | {"_request": request})
            return found
    return error


def _refusal(error: SvcmeshError, request: Any) -> SvcmeshError:
    for kind in type(error).__mro__:
        if kind in _REFUSALS:
            found = _REFUSALS[kind](*error.args)
            found.__dict__.update(error.__dict__ | {"_request": request})
            return found
    return error


@contextmanager
def _errors_of(library: ModuleType, request: Any) -> Generator[None, None, None]:
    """Let what is raised inside be raised as an error of ``library``, with the cause that it has."""
    try:
        yield
    except Exception as error:
        found = of_httpx(error, library, request)
        if found is error:
            raise
        raise found from (error.__cause__ or error)


def _incoming(request: httpx2.Request) -> httpx.Request:
    stream: Any = request.stream
    if isinstance(stream, httpx2.ByteStream):
        stream = httpx.ByteStream(b"".join(stream))  # it is in memory, and so it can be sent again
    return _request(request, httpx, stream)  # type: ignore[no-any-return]


def _outgoing(request: httpx.Request) -> httpx2.Request:
    stream: Any = request.stream
    if isinstance(stream, httpx.ByteStream):
        stream = httpx2.ByteStream(b"".join(stream))
    elif not isinstance(stream, httpx2.SyncByteStream | httpx2.AsyncByteStream):
        stream = Stream(stream, httpx2, request)
    return _request(request, httpx2, stream)  # type: ignore[no-any-return]


def _request(request: Any, library: ModuleType, stream: Any) -> Any:
    return library.Request(
        request.method,
        library.URL(str(request.url)),
        headers=request.headers.raw,
        stream=stream,
        extensions=request.extensions,
    )


def _response(response: Any, library: ModuleType, request: Any) -> Any:
    return library.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=Stream(response.stream, library, request),
        extensions=response.extensions,
    )
