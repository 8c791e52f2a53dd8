"""Errors as callers of httpx catch them: httpcore's mapped to httpx's, and our refusals as subclasses of both."""

from __future__ import annotations

from typing import Any

import httpcore
import httpx

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints, SvcmeshError


class NotTaken(httpcore.RemoteProtocolError):
    """An HTTP/2 server said that it did not take the request, or the connection could not: it was not executed."""


FROM_HTTPCORE: dict[type[BaseException], type[httpx.TransportError]] = {
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}


def translated(error: Exception, request: httpx.Request) -> Exception:
    """Return httpx's counterpart of an error of httpcore, with that as its cause; other errors as they are.

    The most specific class wins, so that a ReadTimeout is not just a TimeoutException.
    """
    for kind in type(error).__mro__:
        if kind in FROM_HTTPCORE:
            found = FROM_HTTPCORE[kind](str(error), request=request)
            found.__cause__ = found.__context__ = error  # as `raise … from` leaves it with the stock transport
            return found
    return error


class HTTPRefusal(SvcmeshError):
    """A call that svcmesh refused, or ended, itself. ``request`` is the request that was not sent, or not answered."""

    _request: Any = None  # where httpx's errors keep it; their __init__ does not run for all of ours


class HTTPNoEndpoints(HTTPRefusal, NoEndpoints, httpx.ConnectError):
    """There is no endpoint that the request could go to."""


class HTTPCircuitOpen(HTTPRefusal, CircuitOpen, httpx.ConnectError):
    """A circuit breaker is open, so the request was not sent."""


class HTTPLimitExceeded(HTTPRefusal, LimitExceeded, httpx.PoolTimeout):
    """A limit of ours refused the request."""


class HTTPDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx.ReadTimeout):
    """The time that the request had, retries included, is used up."""


class HTTPConnectDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx.ConnectTimeout):
    """Connecting used up the time: the request was not sent."""


class HTTPWriteDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx.WriteTimeout):
    """Sending the request used up the time."""


class HTTPPoolDeadlineExceeded(HTTPRefusal, DeadlineExceeded, httpx.PoolTimeout):
    """Waiting for a connection used up the time: the request was not sent."""


_REFUSALS: dict[type[SvcmeshError], type[HTTPRefusal]] = {
    NoEndpoints: HTTPNoEndpoints,
    CircuitOpen: HTTPCircuitOpen,
    LimitExceeded: HTTPLimitExceeded,
    DeadlineExceeded: HTTPDeadlineExceeded,
}


_DURING: dict[type[Exception], type[HTTPRefusal]] = {
    httpx.ConnectTimeout: HTTPConnectDeadlineExceeded,
    httpx.WriteTimeout: HTTPWriteDeadlineExceeded,
    httpx.PoolTimeout: HTTPPoolDeadlineExceeded,
}


def as_httpx(error: SvcmeshError, request: httpx.Request, during: type[Exception] = httpx.ReadTimeout) -> SvcmeshError:
    """Return ``error`` as an error that is also httpx's; one that has no counterpart is returned itself.

    Args:
        error: what we refuse a call with, or end it.
        request: the call's.
        during: httpx's name for what went on when a deadline passed.
    """
    for kind in type(error).__mro__:
        if kind in _REFUSALS:
            fitting = _DURING.get(during) if kind is DeadlineExceeded else None
            refusal = (fitting or _REFUSALS[kind])(*error.args)
            state: dict[str, Any] = error.__dict__
            refusal.__dict__.update(state)
            refusal.request = request  # type: ignore[attr-defined]  # httpx.RequestError's property
            refusal.__cause__ = refusal.__context__ = error.__cause__
            return refusal
    return error
