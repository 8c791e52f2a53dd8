"""Connections of asyncio where the server may speak HTTP/2: as `awaiting`, with calls that share one."""

from __future__ import annotations

from time import monotonic
from typing import Any

import httpcore
import httpx

from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.awaiting import AsyncConnections, TaskPlace
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.http2.awaiting import AwaitingExchange, AwaitingLink
from svcmesh.transport.http.http2.pipe import pipe_of
from svcmesh.transport.http.http2.trace import traced
from svcmesh.transport.http.http2.trunk import Seat, Trunk
from svcmesh.transport.http.http2.trunk_pool import SharingPool
from svcmesh.transport.http.message import timeout_of
from svcmesh.transport.http.trip import Trip


class AsyncSharedConnections(AsyncConnections):
    """The connections of one loop for one origin, as far as possible shared."""

    pool: SharingPool[Member, Trunk]

    def __init__(self, dialing: Dialing, request: httpx.Request) -> None:
        self._dialing = dialing
        super().__init__(dialing, request)

    def _pool(self, dialing: Dialing, origin: httpcore.Origin) -> Any:
        return SharingPool(lambda member: Trunk(origin, dialing.async_wire(member)), TaskPlace, **dialing.bounds())

    async def _acquire(self, trip: Trip) -> Seat:
        return Seat(await super()._acquire(trip))

    def _give(self, member: Member, line: Any, *, keep: bool) -> None:
        self.pool.give(member, line.trunk, monotonic(), keep=line.leave(keep=keep))

    def _abandon(self, line: Any) -> None:
        line.drop()
        self.pool.orphan(line.trunk)

    async def _answer(self, trip: Trip, line: Any) -> tuple[httpx.Response, bool]:
        trunk: Trunk = line.trunk
        if trunk.opening:
            await open_trunk(trunk, trip.request, self._dialing)
            line.board()
            self.pool.opened_up(trip.member, trunk, monotonic())
        return await super()._answer(trip, line)


async def open_trunk(trunk: Trunk, request: httpx.Request, dialing: Dialing) -> None:
    """Connect, and find out what the server speaks.

    Raises:
        httpcore.ConnectError: there is nobody, or nobody who speaks what is asked for.
        httpcore.ConnectTimeout: it takes too long.
    """
    timeout = timeout_of(request, "connect")
    told: dict[str, Any] = dialing.connect_arguments(trunk.origin, timeout)
    async with traced(request, "connection.connect_tcp", **told) as trace:
        trace.result = stream = await trunk.wire.connect_tcp(**told)
    if trunk.origin.scheme in {b"https", b"wss"}:
        told = dialing.tls_arguments(trunk.origin, request, timeout)
        async with traced(request, "connection.start_tls", **told) as trace:
            trace.result = stream = await stream.start_tls(**told)
    if dialing.chose_two(stream):
        link = AwaitingLink(pipe_of(stream))
        async with traced(request, "http2.send_connection_init", request=request):
            await AwaitingExchange(link, trunk.wire.limit, stream).greet(request)
        trunk.speaks_two(link, AwaitingExchange)
    else:
        trunk.http1 = httpcore.AsyncHTTP11Connection(trunk.origin, stream, dialing.limits.keepalive_expiry)
