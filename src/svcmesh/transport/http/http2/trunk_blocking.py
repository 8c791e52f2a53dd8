"""Blocking connections where the server may speak HTTP/2: as `blocking`, with calls that share one."""

from __future__ import annotations

from time import monotonic
from typing import Any

import httpcore
import httpx

from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.blocking import Connections, ThreadPlace
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.http2.blocking import BlockingExchange, BlockingLink
from svcmesh.transport.http.http2.pipe import pipe_of
from svcmesh.transport.http.http2.trace import traced
from svcmesh.transport.http.http2.trunk import Seat, Trunk
from svcmesh.transport.http.http2.trunk_pool import SharingPool
from svcmesh.transport.http.message import timeout_of
from svcmesh.transport.http.trip import Trip


class SharedConnections(Connections):
    """The blocking connections for one origin, as far as possible shared."""

    pool: SharingPool[Member, Trunk]

    def __init__(self, dialing: Dialing, request: httpx.Request) -> None:
        self._dialing = dialing
        super().__init__(dialing, request)

    def _pool(self, dialing: Dialing, origin: httpcore.Origin) -> Any:
        return SharingPool(lambda member: Trunk(origin, dialing.wire(member)), ThreadPlace, **dialing.bounds())

    def _acquire(self, trip: Trip) -> Seat:
        return Seat(super()._acquire(trip))

    def _give(self, member: Member, line: Any, *, keep: bool) -> None:
        self.pool.give(member, line.trunk, monotonic(), keep=line.leave(keep=keep))

    def _abandon(self, line: Any) -> None:
        line.drop()
        self.pool.orphan(line.trunk)

    def _answer(self, trip: Trip, line: Any) -> tuple[httpx.Response, bool]:
        trunk: Trunk = line.trunk
        if trunk.opening:
            open_trunk(trunk, trip.request, self._dialing)
            line.board()
            self.pool.opened_up(trip.member, trunk, monotonic())
        return super()._answer(trip, line)


def open_trunk(trunk: Trunk, request: httpx.Request, dialing: Dialing) -> None:
    """Connect, and find out what the server speaks.

    Raises:
        httpcore.ConnectError: there is nobody, or nobody who speaks what is asked for.
        httpcore.ConnectTimeout: it takes too long.
    """
    timeout = timeout_of(request, "connect")
    told: dict[str, Any] = dialing.connect_arguments(trunk.origin, timeout)
    with traced(request, "connection.connect_tcp", **told) as trace:
        trace.result = stream = trunk.wire.connect_tcp(**told)
    if trunk.origin.scheme in {b"https", b"wss"}:
        told = dialing.tls_arguments(trunk.origin, request, timeout)
        with traced(request, "connection.start_tls", **told) as trace:
            trace.result = stream = stream.start_tls(**told)
    if dialing.chose_two(stream):
        link = BlockingLink(pipe_of(stream))
        with traced(request, "http2.send_connection_init", request=request):
            BlockingExchange(link, trunk.wire.limit, stream).greet(request)
        trunk.speaks_two(link, BlockingExchange)
    else:
        trunk.http1 = httpcore.HTTP11Connection(trunk.origin, stream, dialing.limits.keepalive_expiry)
