"""The transport of httpx for asyncio: as `transport`, with a set of connections for each event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx

from svcmesh.core.errors import ConfigError, NoEndpoints
from svcmesh.core.here import LivesHere
from svcmesh.core.outcome import Outcome
from svcmesh.engine import awaiting
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.in_time import CutShort
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER
from svcmesh.engine.view import View
from svcmesh.transport.http.by_loop import Loops
from svcmesh.transport.http.connection.awaiting import AsyncConnections
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.exchange import HttpExchange
from svcmesh.transport.http.fork import forget_after_fork
from svcmesh.transport.http.inner import AsyncInner
from svcmesh.transport.http.library import speaker
from svcmesh.transport.http.message import lookup, origin_key
from svcmesh.transport.http.passed_on import AsyncPassedOn
from svcmesh.transport.http.patched import ASYNC_STOCK, shown_async, unseen_async
from svcmesh.transport.http.route import Route, await_snapshot_async, check_scheme, is_unknown, on_port


class AsyncMeshTransport(LivesHere, httpx.AsyncBaseTransport):
    """Give it to an `httpx.AsyncClient`. Made by `Service.http_async_transport` and `Mesh.http_async_transport`.

    Closing it closes its connections, and the transport it was given as ``inner``; not the mesh.

    Loops: any number of asyncio's, in any threads; each has connections of its own.
    """

    def __init__(
        self, route: Route, dialing: Dialing, inner: httpx.AsyncBaseTransport | None, plain: dict[str, Any]
    ) -> None:
        self._route = route
        self._dialing = dialing
        self._given = inner
        self._inner = None if inner is None else AsyncInner(inner)
        self._loops = Loops()
        self._shared = _shared() if dialing.http2 else AsyncConnections
        self._plain_arguments = plain
        forget_after_fork(self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` to an endpoint of the service that its host names."""
        if not isinstance(request, httpx.Request):
            return await speaker(request).handle_async(self, request)
        if httpx.AsyncHTTPTransport.handle_async_request is not ASYNC_STOCK:
            return await shown_async(self._send, request)
        return await self._send(request)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        view = self._route.find(request)
        if view is None:
            return await self._pass_on(request)
        loop = _running_loop()
        now = view.clock.now()
        deadline = view.deadline(now)
        if request.url.port is not None:
            await await_snapshot_async(view, min(deadline, now + lookup(request)))
            view = on_port(view, request, passthrough=self._route.passthrough)
            if view is None:
                return await self._pass_on(request)
            now = view.clock.now() if view.cluster.ready else now
        until = min(now + view.limit, deadline)
        exchange = AwaitingHttp(self, view, request, deadline)
        reaper = view.runtime.reapers.of(loop)
        member = view.enter(now, exchange.key) if now < until else None
        if member is None:
            return await self._call(view, exchange, now, deadline)
        key = reaper.watch(until) if until < NEVER else None
        ended: BaseException
        try:
            trip = exchange.trip(member, now, until, final=until >= deadline)
            exchange.sender = sender = self.sender(request, loop)
            response = exchange.read(await sender.send(trip), trip)
        except BaseException as error:  # noqa: BLE001 - the machine settles it, and raises it again where it stands
            cut = isinstance(error, Exception) and key is not None and reaper.others(key)
            ended, late = CutShort(error) if cut else error, reaper.late(key)  # type: ignore[arg-type]  # an Exception
        else:
            reaper.late(key)  # an answer that came in spite of a cancellation is an answer
            if view.learns:
                view.learn(member, now)
            if not exchange.deferred:
                member.finished += 1
            return response
        try:
            return await awaiting.resume(view, exchange, member, now, deadline, ended, late=late)  # type: ignore[no-any-return]
        finally:
            del ended  # it refers to this frame

    def sender(self, request: httpx.Request, loop: asyncio.AbstractEventLoop) -> AsyncConnections | AsyncInner:
        """Return what carries ``request``: the user's own transport, or our connections for its origin and loop."""
        if self._inner is not None:
            return self._inner
        connections, key = self._loops.home(loop).connections, origin_key(request)
        found = connections.get(key)
        if found is None:
            found = connections[key] = self._connections_for(request)
        return found

    def _connections_for(self, request: httpx.Request) -> AsyncConnections:
        made = self._shared if self._dialing.shares(request.url) else AsyncConnections
        return made(self._dialing, request)

    async def aclose(self) -> None:
        """Close all connections of this transport; those in use when their answer has been read."""
        await self._loops.aclose()
        if self._given is not None:
            await self._given.aclose()

    async def __aenter__(self) -> Self:
        """Enter the transport that was given as ``inner``, too: some start what they need only then."""
        if self._given is not None:
            await self._given.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close all connections, and leave the transport that was given."""
        if self._given is None:
            await self.aclose()
        else:
            await self._loops.aclose()
            await self._given.__aexit__(exc_type, exc_value, traceback)

    def forget(self) -> None:
        """In a forked child: the connections are the parent's. A transport that was given is the user's to see to."""
        self._loops.forget()

    async def _call(self, view: View, exchange: AwaitingHttp, now: float, deadline: float) -> httpx.Response:
        if self._route.passthrough:
            await await_snapshot_async(view, min(deadline, now + lookup(exchange.request)))
            if is_unknown(view):
                again = self._route.respelled(exchange.request)
                return await (self._send if again else self._pass_on)(exchange.request)
        try:
            return await awaiting.run(Call(view, exchange, now, deadline), exchange)  # type: ignore[no-any-return]
        except NoEndpoints:
            if not (is_unknown(view) and self._route.respelled(exchange.request)):
                raise
        return await self._send(exchange.request)

    async def _pass_on(self, request: httpx.Request) -> httpx.Response:
        if self._given is not None:
            return await unseen_async(self._given, request)
        check_scheme(request)
        home = self._loops.home(_running_loop())
        if home.passed_on is None:
            home.passed_on = AsyncPassedOn(self._plain_arguments)
        return await home.passed_on.send(request)


class AwaitingHttp(HttpExchange):
    """One logical request on connections of an asyncio loop; ``sender`` as in `BlockingHttp`."""

    def __init__(self, transport: AsyncMeshTransport, view: View, request: httpx.Request, deadline: float) -> None:
        super().__init__(view, request, deadline)
        self.sender: AsyncConnections | AsyncInner | None = None
        self._transport = transport

    async def send(self, attempt: Attempt) -> httpx.Response:
        """Make one attempt."""
        trip = self.trip(attempt.member, attempt.started, attempt.until, final=attempt.final)
        sender = self.sender
        if sender is None:
            sender = self.sender = self._transport.sender(self.request, asyncio.get_running_loop())
        return self.read(await sender.send(trip), trip)

    async def discard(self, outcome: Outcome) -> None:
        """Close an answer that nobody will see."""
        await outcome.value.aclose()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = "svcmesh's async transport runs on asyncio (or uvloop) only; under trio use the blocking one"
        raise ConfigError(message) from None


def _shared() -> type[AsyncConnections]:
    """Return the connections that requests share, which need h2; imported now for the same reason as in `transport`."""
    from svcmesh.transport.http.http2.trunk_awaiting import AsyncSharedConnections

    return AsyncSharedConnections
