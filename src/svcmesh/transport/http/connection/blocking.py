"""Sending one attempt over our own blocking connections, and waiting for one where all are busy."""

from __future__ import annotations

from functools import partial
from threading import Event
from time import monotonic
from typing import Any

import httpcore
import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.lane import is_plain_request
from svcmesh.transport.http.connection.lane_blocking import LaneBody, ask
from svcmesh.transport.http.connection.line import Dialing, Line
from svcmesh.transport.http.connection.pool import Place, Pool
from svcmesh.transport.http.connection.tenancy import Tenancy
from svcmesh.transport.http.connection.wire import clamp
from svcmesh.transport.http.message import core_request, core_url, fits, timeout_of
from svcmesh.transport.http.outcome import is_stale, is_untouched
from svcmesh.transport.http.stream import Owed, ResponseStream
from svcmesh.transport.http.trip import Trip

BlockingLine = Line[httpcore.HTTPConnection]
BlockingPool = Pool[Member, Any]  # of lines; of trunks, where calls share them


class ThreadPlace(Place[Member, Any]):
    """A place in the queue where a thread waits."""

    def __init__(self) -> None:
        super().__init__()
        self._there = Event()

    def wake(self) -> None:
        """Let the thread go on."""
        self._there.set()

    def wait(self, timeout: float | None) -> bool:
        """Block for at most ``timeout`` seconds; return whether the connection is there."""
        return self._there.wait(timeout)


class Connections:
    """The blocking connections for one origin (scheme, host, port): to all endpoints of one service.

    Threads: any.
    """

    def __init__(self, dialing: Dialing, request: httpx.Request) -> None:
        self.pool = self._pool(dialing, request)
        self._tenancy = Tenancy(self.pool)

    def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        fresh = False
        while True:
            try:
                line = self._acquire(trip, fresh=fresh)
            except httpx.PoolTimeout as error:
                return trip.ended(error, used=False)
            used, line.used = line.used, True
            line.wire.limit.until = trip.until
            try:
                return self._answer(trip, line)
            except BaseException as error:
                self._give(trip.member, line, keep=False)
                if not isinstance(error, Exception):
                    raise
                failure = error
            if used and is_untouched(failure, trip.request):
                continue  # it was closed between the look at it and its use
            outcome = trip.ended(failure, used=used)
            if fresh or not (used and is_stale(outcome.error) and trip.repeat()):
                return outcome
            fresh = True

    def close(self) -> None:
        """Close what is idle, and what is in use when it comes back."""
        self._tenancy.end()

    def forget(self) -> None:
        """Drop everything in a forked child: the connections are the parent's."""
        self._tenancy.forget()

    def _answer(self, trip: Trip, line: BlockingLine) -> tuple[httpx.Response, bool]:
        request, lane, headers = trip.request, line.lane, trip.headers()
        body: Any
        if lane is not None and is_plain_request(request, headers):
            head = ask(lane, request, headers)
            status, headers, extensions = head.status, head.headers, lane.extensions(head)
            body = LaneBody(lane, request)
        else:
            raw = line.http.handle_request(core_request(request, headers))
            status, headers, extensions, body = raw.status, raw.headers, dict(raw.extensions), raw.stream
        held = not fits(request, status, headers, trip.buffer)
        if held:
            line.wire.limit.until = until = trip.body_until()
            owed = Owed(trip, until, partial(self._release, trip.member, line), partial(self._abandon, line))
            stream: httpx.SyncByteStream = ResponseStream(body, owed)
        else:
            stream = httpx.ByteStream(b"".join(body))
            body.close()
            self._release(trip.member, line)
        return httpx.Response(status, headers=headers, stream=stream, extensions=extensions), held

    def _pool(self, dialing: Dialing, request: httpx.Request) -> BlockingPool:
        return Pool(partial(dialing.line, core_url(request.url).origin), ThreadPlace, **dialing.bounds())

    def _give(self, member: Member, line: BlockingLine, *, keep: bool) -> None:
        self.pool.give(member, line, monotonic(), keep=keep)

    def _abandon(self, line: BlockingLine) -> None:
        self.pool.orphan(line)

    def _release(self, member: Member, line: BlockingLine) -> None:
        self._give(member, line, keep=line.idle())

    def _acquire(self, trip: Trip, *, fresh: bool) -> Any:
        if trip.member not in self.pool:
            self._tenancy.begin(trip.member)
        found = self.pool.take(trip.member, monotonic(), fresh=fresh)
        return self._wait(found, trip) if isinstance(found, Place) else found

    def _wait(self, place: Place[Member, Any], trip: Trip) -> Any:
        timeout = clamp(timeout_of(trip.request, "pool"), trip.until)
        try:
            place.wait(timeout)  # type: ignore[attr-defined]  # our pool makes ThreadPlaces only
        except BaseException:
            self._give_up(place)
            raise
        line = self.pool.leave(place)
        if line is None:
            raise httpx.PoolTimeout(f"no connection to {trip.whom} became free in time", request=trip.request)
        return line

    def _give_up(self, place: Place[Member, Any]) -> None:
        line = self.pool.leave(place)
        if line is not None and place.key is not None:
            self.pool.give(place.key, line, monotonic(), keep=line.used)
