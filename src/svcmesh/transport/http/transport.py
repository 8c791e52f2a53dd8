"""The blocking transport of httpx: hosts are services, and every request goes through a policy."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from svcmesh.core.errors import NoEndpoints
from svcmesh.core.here import LivesHere
from svcmesh.core.outcome import Outcome
from svcmesh.engine import blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.view import View
from svcmesh.transport.http.connection.blocking import Connections
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.exchange import HttpExchange
from svcmesh.transport.http.fork import forget_after_fork
from svcmesh.transport.http.inner import Inner
from svcmesh.transport.http.library import speaker
from svcmesh.transport.http.message import OriginKey, lookup, origin_key
from svcmesh.transport.http.passed_on import PassedOn
from svcmesh.transport.http.patched import STOCK, shown, unseen
from svcmesh.transport.http.route import Route, await_snapshot, is_unknown, on_port


class MeshTransport(LivesHere, httpx.BaseTransport):
    """Give it to an `httpx.Client`. Made by `Service.http_transport` and `Mesh.http_transport`.

    Closing it closes its connections, and the transport it was given as ``inner``; not the mesh.

    Threads: any.
    """

    def __init__(
        self, route: Route, dialing: Dialing, inner: httpx.BaseTransport | None, plain: dict[str, Any]
    ) -> None:
        self._route = route
        self._dialing = dialing
        self._given = inner
        self._inner = None if inner is None else Inner(inner)
        self._connections: dict[OriginKey, Connections] = {}
        self._shared = _shared() if dialing.http2 else Connections
        self._passed_on = PassedOn(plain)
        forget_after_fork(self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` to an endpoint of the service that its host names."""
        if not isinstance(request, httpx.Request):
            return speaker(request).handle(self, request)
        if httpx.HTTPTransport.handle_request is not STOCK:
            return shown(self._send, request)
        return self._send(request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        view = self._route.find(request)
        if view is None:
            return self._pass_on(request)
        now = view.clock.now()
        deadline = view.deadline(now)
        if request.url.port is not None:
            await_snapshot(view, min(deadline, now + lookup(request)))
            view = on_port(view, request, passthrough=self._route.passthrough)
            if view is None:
                return self._pass_on(request)
            now = view.clock.now() if view.cluster.ready else now
        until = min(now + view.limit, deadline)
        exchange = BlockingHttp(self, view, request, deadline)
        member = view.enter(now, exchange.key) if now < until else None
        if member is None:
            return self._call(view, exchange, now, deadline)
        ended: BaseException
        try:
            trip = exchange.trip(member, now, until, final=until >= deadline)
            exchange.sender = sender = self.sender(request)
            response = exchange.read(sender.send(trip), trip)
        except BaseException as error:  # noqa: BLE001 - the machine settles it, and raises it again where it stands
            ended = error
        else:
            if not exchange.deferred:
                member.finished += 1
            if view.learns:
                view.learn(member, now)
            return response
        try:
            return blocking.resume(view, exchange, member, now, deadline, ended)  # type: ignore[no-any-return]
        finally:
            del ended  # it refers to this frame

    def sender(self, request: httpx.Request) -> Connections | Inner:
        """Return what carries ``request``: the user's own transport, or our connections for its origin."""
        if self._inner is not None:
            return self._inner
        key = origin_key(request)
        found = self._connections.get(key)
        if found is None:
            found = self._connections.setdefault(key, self._connections_for(request))
        return found

    def _connections_for(self, request: httpx.Request) -> Connections:
        made = self._shared if self._dialing.shares(request.url) else Connections
        return made(self._dialing, request)

    def close(self) -> None:
        """Close all connections of this transport; those in use when their answer has been read."""
        self._close_own()
        if self._given is not None:
            self._given.close()

    def __enter__(self) -> Self:
        """Enter the transport that was given as ``inner``, too: some start what they need only then."""
        if self._given is not None:
            self._given.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close all connections, and leave the transport that was given."""
        if self._given is None:
            self.close()
        else:
            self._close_own()
            self._given.__exit__(exc_type, exc_value, traceback)

    def forget(self) -> None:
        """In a forked child: the connections are the parent's. A transport that was given is the user's to see to."""
        self._connections = {}
        self._passed_on.forget()

    def _close_own(self) -> None:
        connections, self._connections = self._connections, {}
        for each in connections.values():
            each.close()
        self._passed_on.close()

    def _call(self, view: View, exchange: BlockingHttp, now: float, deadline: float) -> httpx.Response:
        if self._route.passthrough:
            await_snapshot(view, min(deadline, now + lookup(exchange.request)))
            if is_unknown(view):
                again = self._route.respelled(exchange.request)
                return (self._send if again else self._pass_on)(exchange.request)
        try:
            return blocking.run(Call(view, exchange, now, deadline), exchange)  # type: ignore[no-any-return]
        except NoEndpoints:
            if not (is_unknown(view) and self._route.respelled(exchange.request)):
                raise
        return self._send(exchange.request)

    def _pass_on(self, request: httpx.Request) -> httpx.Response:
        return self._passed_on.send(request) if self._given is None else unseen(self._given, request)


class BlockingHttp(HttpExchange):
    """One logical request on blocking connections.

    Attributes:
        sender: what carries it; None before its first attempt. It stays the same for all of them, so that a request
            which outlives the closing of its transport opens nothing that would stay open.
    """

    def __init__(self, transport: MeshTransport, view: View, request: httpx.Request, deadline: float) -> None:
        super().__init__(view, request, deadline)
        self.sender: Connections | Inner | None = None
        self._transport = transport

    def send(self, attempt: Attempt) -> httpx.Response:
        """Make one attempt."""
        trip = self.trip(attempt.member, attempt.started, attempt.until, final=attempt.final)
        sender = self.sender
        if sender is None:
            sender = self.sender = self._transport.sender(self.request)
        return self.read(sender.send(trip), trip)

    def discard(self, outcome: Outcome) -> None:
        """Close an answer that nobody will see."""
        outcome.value.close()


def _shared() -> type[Connections]:
    """Return the connections that requests share, which need h2.

    It is imported now, and not by the first request: a process that forks while one of its threads imports a module
    has children that wait for that thread as soon as they need the module.
    """
    from svcmesh.transport.http.http2.trunk_blocking import SharedConnections

    return SharedConnections
