"""A policy for blocking channels that are not ours, by way of ``grpc.intercept_channel``.

gRPC calls an interceptor alike whether its caller waits (``stub.Method(request)``) or not (``stub.Method.future``),
and what the interceptor goes on with blocks in the one case and not in the other. A caller who waits gets attempts and
pauses on the thread that waits, everybody else gets a call object at once.
"""

from __future__ import annotations

from typing import Any

import grpc

from svcmesh.core.outcome import Kind as EndKind
from svcmesh.core.outcome import Outcome
from svcmesh.engine import blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.below import Below, line_of, view_of
from svcmesh.transport.grpc.call import MeshCall
from svcmesh.transport.grpc.line import GrpcExchange, Line, wire_timeout
from svcmesh.transport.grpc.method import Kind
from svcmesh.transport.grpc.outcome import ENDPOINT_GONE
from svcmesh.transport.grpc.request import CopiedRequest, Request, StreamedRequest, snapshot

_UNTOUCHED: tuple[Any, Any, Any] = (None, None, None)
"""Metadata, credentials and compression are in the details, which go down as they came."""


def client_interceptors(policy: Policy) -> list[Any]:
    """Return interceptors that put ``policy`` around each call of any blocking channel, for `grpc.intercept_channel`.

    Retries, deadlines, breakers and faults work as on a mesh channel, for all four kinds of calls; the channel is the
    one "endpoint", so nothing is balanced. A list of one object, which may serve several channels: they then share
    breakers and retry budget. The channel below may retry by itself; gRPC's transparent retries do no harm.

    Raises:
        ConfigError: no policy.

    Threads: any. Cost: gRPC's own for an interceptor, 10 to 20 % of a unary call; a mesh channel costs nothing.
    """
    return [ClientInterceptor(view_of(policy))]


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """One policy around the calls of all kinds."""

    def __init__(self, view: View) -> None:
        self._view = view

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Go on with a call that has one request and one response."""
        return self._single(continuation, client_call_details, "unary_unary", CopiedRequest(request))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Go on with a call that has one request and streamed responses."""
        return self._start(continuation, client_call_details, "unary_stream", CopiedRequest(request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Go on with a call that has streamed requests and one response."""
        return self._single(continuation, client_call_details, "stream_unary", _streamed(request_iterator))

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Go on with a call that has streamed requests and streamed responses."""
        return self._start(continuation, client_call_details, "stream_stream", _streamed(request_iterator))

    def _single(self, go: Any, details: Any, kind: Kind, request: Request) -> Any:
        if returns_at_once(go):
            return self._start(go, details, kind, request)
        below = Below(go, details)
        return _wait(Waiting(line_of(self._view, below, kind, details), below, request), _timeout(details))

    def _start(self, go: Any, details: Any, kind: Kind, request: Request) -> Any:
        line = line_of(self._view, Below(go, details), kind, details)
        return MeshCall.begin(line, request, _UNTOUCHED, _timeout(details), patient=False)


class Waiting(GrpcExchange):
    """One intercepted call whose caller waits."""

    def __init__(self, line: Line, below: Below, request: Request) -> None:
        super().__init__(line, patient=False)
        self._below = below
        self._request = request

    def replayable(self) -> bool:
        """Whether the request can be sent again, and the channel is open."""
        return self._request.replayable and super().replayable()

    def classify(self, error: BaseException, *, answered: bool | None = None) -> Outcome:
        """Read the error; a channel that is closed here was closed by its owner, and there is no other."""
        outcome = super().classify(error, answered=answered)
        return Outcome(EndKind.ERROR, error) if outcome.reason == ENDPOINT_GONE else outcome

    def send(self, attempt: Attempt) -> Any:
        """Make the attempt on the caller's thread; return the call object of one that ended well."""
        return self.go(attempt.until - self.line.view.clock.now())

    def go(self, seconds: float) -> Any:
        """Go on once. What comes back is a call object for good and for bad ends: only asking it raises."""
        call = self._below(self._request.again(), wire_timeout(seconds))
        call.result()
        return call


def _wait(exchange: Waiting, timeout: float | None) -> Any:
    """Make a call for somebody who waits; return its call object or raise."""
    view = exchange.line.view
    now = view.clock.now()
    deadline = view.deadline(now, timeout)
    member = view.enter(now) if now < deadline else None
    if member is None:
        return blocking.run(Call(view, exchange, now, deadline), exchange)
    try:
        call = exchange.go(min(deadline - now, view.per_try))
    except BaseException as error:  # noqa: BLE001 - the machine settles it, and raises what is to be raised
        return blocking.resume(view, exchange, member, now, deadline, error)
    member.finished += 1
    if view.learns:
        view.learn(member, now)
    return call


def returns_at_once(go: Any) -> bool:
    """Whether what an interceptor goes on with returns a call that still runs.

    Nothing but the function's name tells. One of another name is taken to block, which is right for all but the
    futures of a gRPC that has renamed it; those would come late then, with the same result.
    """
    return ".future." in getattr(go, "__qualname__", "")


def _streamed(requests: Any) -> StreamedRequest:
    return Request.streamed(requests, snapshot)


def _timeout(details: Any) -> float | None:
    found: float | None = getattr(details, "timeout", None)
    return found
