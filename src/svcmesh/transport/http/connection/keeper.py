"""What is done with connections without waiting: the half of sending that threads and tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from time import monotonic
from typing import Any

import httpcore
import httpx

from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.connection.pool import Place, Pool
from svcmesh.transport.http.connection.tenancy import Tenancy
from svcmesh.transport.http.fork import forget_after_fork
from svcmesh.transport.http.message import core_url
from svcmesh.transport.http.stream import Owed
from svcmesh.transport.http.trip import Trip


class Keeper(ABC):
    """The connections for one origin (scheme, host, port): to all endpoints of one service.

    Subclasses say how one waits for a connection, and how a request is sent on it.
    """

    def __init__(self, dialing: Dialing, request: httpx.Request) -> None:
        self.pool = self._pool(dialing, core_url(request.url).origin)  # of lines, or of trunks
        self._tenancy = Tenancy(self.pool)
        forget_after_fork(self)

    def close(self) -> None:
        """Close what is idle, and what is in use when it comes back."""
        self._tenancy.end()

    def forget(self) -> None:
        """Drop everything in a forked child: the connections are the parent's, also those with an answer."""
        self._tenancy.forget()
        self.pool.forget()

    @abstractmethod
    def _pool(self, dialing: Dialing, origin: httpcore.Origin) -> Pool[Member, Any]:
        """Return the pool, which says how one waits for a connection."""

    def _take(self, trip: Trip) -> Any:
        """Return a connection, or a place to wait for one."""
        if trip.member not in self.pool:
            self._tenancy.begin(trip.member)
        return self.pool.take(trip.member, monotonic(), fresh=trip.fresh)

    def _taken(self, place: Place[Member, Any], trip: Trip) -> Any:
        """Return the connection that was waited for.

        Raises:
            httpx.PoolTimeout: there is none.
        """
        line = self.pool.leave(place)
        if line is None:
            raise httpx.PoolTimeout(f"no connection to {trip.whom} became free in time", request=trip.request)
        return line

    def _give_up(self, place: Place[Member, Any]) -> None:
        """Wait no more; a connection that came at the last moment goes to the next one."""
        line = self.pool.leave(place)
        if line is not None and place.key is not None:
            self.pool.give(place.key, line, monotonic(), keep=line.used)

    def _give(self, member: Member, line: Any, *, keep: bool) -> None:
        self.pool.give(member, line, monotonic(), keep=keep)

    def _release(self, member: Member, line: Any) -> None:
        self._give(member, line, keep=line.idle())

    def _abandon(self, line: Any) -> None:
        self.pool.orphan(line)

    def _owed(self, trip: Trip, line: Any) -> Owed:
        """Return what an answer owes whose body is still to come."""
        line.wire.limit.until = until = trip.body_until()
        return Owed(trip, until, partial(self._release, trip.member, line), partial(self._abandon, line))
