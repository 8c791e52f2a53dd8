"""Sending one attempt over our own blocking connections, and waiting for one where all are busy."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import Any

import httpcore
import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.keeper import Keeper
from svcmesh.transport.http.connection.lane import is_plain_request
from svcmesh.transport.http.connection.lane_blocking import LaneBody, ask
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.connection.pool import Place, Pool
from svcmesh.transport.http.connection.wire import clamp
from svcmesh.transport.http.message import core_request, fits, timeout_of
from svcmesh.transport.http.stream import ResponseStream
from svcmesh.transport.http.trip import Trip


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


class Connections(Keeper):
    """Connections for threads. Threads: any."""

    def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        while True:
            try:
                line = self._acquire(trip)
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
                outcome = trip.failed(error, used=used)
            if outcome is not None:
                return outcome

    def _answer(self, trip: Trip, line: Any) -> tuple[httpx.Response, bool]:
        request, lane, headers = trip.request, line.lane, trip.headers()
        body: Any
        if lane is not None and is_plain_request(request, headers):
            head = ask(lane, request, headers)
            status, headers, length, extensions = head.status, head.headers, head.length, lane.extensions(head)
            body = LaneBody(lane, request)
        else:
            raw = line.http.handle_request(core_request(request, headers))
            status, headers, length = raw.status, raw.headers, -1
            extensions, body = dict(raw.extensions), raw.stream
        if not fits(request, status, headers, trip.buffer, length):
            response = httpx.Response(status, headers=headers, stream=body, extensions=extensions)
            response.stream = ResponseStream(body, self._owed(trip, line))  # at last: until then `send` gives all back
            return response, True
        stream = httpx.ByteStream(b"".join(body))
        response = httpx.Response(status, headers=headers, stream=stream, extensions=extensions)
        body.close()
        self._release(trip.member, line)
        return response, False

    def _pool(self, dialing: Dialing, origin: httpcore.Origin) -> Pool[Member, Any]:
        return Pool(partial(dialing.line, origin), ThreadPlace, **dialing.bounds())

    def _acquire(self, trip: Trip) -> Any:
        found = self._take(trip)
        if not isinstance(found, ThreadPlace):
            return found
        try:
            found.wait(clamp(timeout_of(trip.request, "pool"), trip.until))
        except BaseException:
            self._give_up(found)
            raise
        return self._taken(found, trip)
