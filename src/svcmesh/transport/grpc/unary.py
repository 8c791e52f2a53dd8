"""Blocking unary calls: pick, start the stock call, count it, hand its response back.

This is the path that must cost nothing beside an RPC of 200 microseconds, so it is written out: one clock read, one
look at the ambient deadline, one pick, two dictionary hits. Whatever is no plain success is handed to the machine.
"""

from __future__ import annotations

from typing import Any

import grpc

from svcmesh.core.deadline import AMBIENT
from svcmesh.engine import blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.member import Member
from svcmesh.transport.grpc.call import MeshCall
from svcmesh.transport.grpc.errors import as_blocking
from svcmesh.transport.grpc.line import GrpcExchange, Line, Multicallable, frozen, wire_timeout
from svcmesh.transport.grpc.outcome import not_invoked
from svcmesh.transport.grpc.request import Request
from svcmesh.transport.grpc.subject import key_of

Stock = tuple[Any, Any, Any]
"""Metadata, call credentials and compression: passed on as they are."""


class UnaryUnary(Multicallable, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A method with one request and one response."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and wait; return the response."""
        line = self._line  # read once: discovery may send another policy while the call is under way
        view = line.view
        if timeout is not None or metadata is not None or view.keyed or AMBIENT.get() is not None:
            stock = (frozen(metadata), credentials, compression)
            return self._wait("__call__", request, timeout, stock, wait_for_ready)
        now = line.now()
        member = view.enter(now)
        if member is None:
            return self._slowly("__call__", request, None, (None, credentials, compression), wait_for_ready, now)
        try:
            response = line.dialer.channel(member).bound(line.method)(
                request, line.limit, None, credentials, None, compression
            )
        except BaseException as error:  # noqa: BLE001 - the machine settles it, and raises what is to be raised
            exchange = Blocking(line, "__call__", request, (None, credentials, compression), wait_for_ready)
            return exchange.resume(member, now, view.deadline(now), error)
        member.finished += 1  # first of all: a signal may raise in whatever is called
        if view.learns:
            view.learn(member, now)
        return response

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and wait; return the response and the call object of the attempt that succeeded."""
        return self._wait("with_call", request, timeout, (frozen(metadata), credentials, compression), wait_for_ready)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the call and return at once."""
        stock = (frozen(metadata), credentials, compression)
        return MeshCall.begin(self._line.current.carrying, Request(request), stock, timeout, bool(wait_for_ready))

    def _wait(self, style: str, request: Any, timeout: float | None, stock: Stock, patient: bool | None) -> Any:
        """Do the same as `__call__` with a timeout of the caller's, metadata or a deadline around it."""
        line = self._line
        view = line.view
        key = key_of(view, line.method, stock[0], Request(request)) if view.keyed else None
        now = line.now()
        deadline = view.deadline(now, timeout)
        member = view.enter(now, key) if now < deadline else None
        if member is None:
            return self._slowly(style, request, timeout, stock, patient, now, key)
        try:
            limit = wire_timeout(min(deadline - now, view.per_try))
            metadata, credentials, compression = stock
            call = getattr(line.dialer.channel(member).bound(line.method), style)
            answer = call(request, limit, metadata, credentials, None, compression)
        except BaseException as error:  # noqa: BLE001 - as above
            return Blocking(line, style, request, stock, patient, key).resume(member, now, deadline, error)
        member.finished += 1
        if view.learns:
            view.learn(member, now)
        return answer

    def _slowly(
        self,
        style: str,
        request: Any,
        timeout: float | None,
        stock: Stock,
        patient: bool | None,
        now: float,
        key: int | None = None,
    ) -> Any:
        line = self._line
        line.dialer.refuse_closed()
        if line.current is not line:
            self._line = line.current
            return self._wait(style, request, timeout, stock, patient)
        exchange = Blocking(line, style, request, stock, patient, key)
        return blocking.run(Call(line.view, exchange, now, line.view.deadline(now, timeout)), exchange)


class StreamUnary(Multicallable, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A method with streamed requests and one response."""

    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and wait; return the response."""
        return self.with_call(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def with_call(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and wait; return the response and the call."""
        call = self.future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        try:
            return call.result(), call
        except grpc.FutureCancelledError:
            failure = call.failure()
        except grpc.RpcError as error:
            failure = as_blocking(error)
        except BaseException:
            call.cancel()  # KeyboardInterrupt: nobody waits for it any more
            raise
        raise failure  # out here, so that the other form of the same error is not its context

    def future(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the call and return at once."""
        stock = (frozen(metadata), credentials, compression)
        requests = Request.streamed(request_iterator, self._line.method.serializer)
        return MeshCall.begin(self._line, requests, stock, timeout, bool(wait_for_ready))


class Blocking(GrpcExchange):
    """One blocking call with one request, from the first thing that was no plain success."""

    def __init__(
        self, line: Line, style: str, request: Any, stock: Stock, patient: bool | None, key: int | None = None
    ) -> None:
        super().__init__(line, bool(patient), key)
        self._style = style
        self._request = request
        self._stock = stock

    def send(self, attempt: Attempt) -> Any:
        """Make the attempt on the caller's thread."""
        self.asked = attempt.member
        metadata, credentials, compression = self._stock
        limit = wire_timeout(attempt.until - self.line.view.clock.now())
        call = getattr(self.line.stock(attempt.member), self._style)
        return call(self._request, limit, metadata, credentials, None, compression)

    def resume(self, member: Member, started: float, deadline: float, error: BaseException) -> Any:
        """Go on after the attempt of the success path raised ``error``."""
        self.asked = member
        if not_invoked(error) and self.line.dialer.closed:
            self.line.view.leave(member)
            raise error
        return blocking.resume(self.line.view, self, member, started, deadline, error)
