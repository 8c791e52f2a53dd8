"""Middleware for HTTP servers: the time that the caller has left becomes the ambient deadline of the handler.

Without it every service starts its own clock, and the last one in a chain works for callers who gave up long ago.
With it `remaining` tells how long an answer is still wanted, and all calls made through svcmesh end in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from svcmesh.core.deadline import DeadlineInSteps, deadline
from svcmesh.transport.http.deadline import GRPC_HEADER, HEADER, remaining_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADER, _GRPC_HEADER = HEADER.encode(), GRPC_HEADER.encode()
_ENVIRON, _GRPC_ENVIRON = (f"HTTP_{name.upper().replace('-', '_')}" for name in (HEADER, GRPC_HEADER))


class ASGIMiddleware:
    """Put it around an ASGI application, or give it to a framework: ``app.add_middleware(ASGIMiddleware)``.

    A request with ``x-envoy-expected-rq-timeout-ms`` (our transports and Envoy send it) or ``grpc-timeout`` is handled
    under a `deadline` of that many seconds, from its arrival. So is what the handler starts and what runs after the
    answer, since tasks inherit it. Other requests, WebSockets and lifespan events are not touched.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApplication) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        seconds = _of_scope(scope) if scope["type"] == "http" else None
        if seconds is None:
            await self.app(scope, receive, send)
            return
        with deadline(seconds):
            await self.app(scope, receive, send)


class WSGIMiddleware:
    """Put it around a WSGI application: ``app.wsgi_app = WSGIMiddleware(app.wsgi_app)``.

    It does what `ASGIMiddleware` does; an answer that is made while it is sent is made under the deadline, too.

    Args:
        app: the application.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        seconds = remaining_of(environ.get(_ENVIRON), environ.get(_GRPC_ENVIRON))
        if seconds is None:
            return self.app(environ, start_response)
        budget = DeadlineInSteps(seconds)
        with budget:
            answer = self.app(environ, start_response)
        if isinstance(answer, list | tuple) or _is_file(answer, environ):
            return answer  # nothing is left to be made, and servers send these faster as they are
        return _Answer(answer, budget)


class _Answer:
    """The parts of an answer, each of them made within ``budget``."""

    def __init__(self, parts: Iterable[bytes], budget: DeadlineInSteps) -> None:
        self._given = parts
        self._parts: Iterator[bytes] | None = None
        self._budget = budget

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._budget:
            if self._parts is None:
                self._parts = iter(self._given)
            return next(self._parts)

    def close(self) -> None:
        """Close the application's answer, as WSGI asks of whoever stands in between."""
        close = getattr(self._given, "close", None)
        if close is not None:
            with self._budget:
                close()


def _of_scope(scope: Scope) -> float | None:
    found: dict[bytes, str] = {}
    for given, value in scope["headers"]:
        name = given.lower()  # ASGI promises that it is, and not every server keeps to that
        if name in {_HEADER, _GRPC_HEADER}:
            found[name] = ",".join([*filter(None, [found.get(name)]), value.decode("latin-1")])
    return remaining_of(found.get(_HEADER), found.get(_GRPC_HEADER)) if found else None


def _is_file(answer: object, environ: WSGIEnvironment) -> bool:
    """Whether an answer is a file in the server's own wrapper, which it may hand to the operating system."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(answer, wrapper)
