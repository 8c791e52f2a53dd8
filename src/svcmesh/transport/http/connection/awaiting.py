"""Sending one attempt over our own connections of an asyncio loop: as `blocking`, and cancellable anywhere.

Whatever an attempt holds is given back by code that never awaits, so that no cancellation can come between.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import httpcore
import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.lane import is_plain_request
from svcmesh.transport.http.connection.lane_awaiting import AsyncLaneBody, ask
from svcmesh.transport.http.connection.line import Dialing, Line
from svcmesh.transport.http.connection.pool import Place, Pool
from svcmesh.transport.http.connection.tenancy import Tenancy
from svcmesh.transport.http.connection.wire import clamp
from svcmesh.transport.http.message import core_request, core_url, fits, timeout_of
from svcmesh.transport.http.outcome import is_stale, is_untouched
from svcmesh.transport.http.stream import AsyncResponseStream, Owed
from svcmesh.transport.http.trip import MARGIN, Trip

AsyncLine = Line[httpcore.AsyncHTTPConnection]
AsyncPool = Pool[Member, Any]  # of lines; of trunks, where calls share them


class TaskPlace(Place[Member, Any]):
    """A place in the queue where a task waits."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._there: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        """Let the task go on. Usually a task of its own loop calls this, but a finalizer may run anywhere."""
        if _running() is self._loop:
            self._tell()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    async def wait(self, timeout: float | None) -> None:
        """Wait for at most ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._there
        except TimeoutError:
            return

    def _tell(self) -> None:
        if not self._there.done():
            self._there.set_result(None)


class AsyncConnections:
    """The connections of one loop for one origin (scheme, host, port): to all endpoints of one service."""

    def __init__(self, dialing: Dialing, request: httpx.Request) -> None:
        self.pool = self._pool(dialing, request)
        self._tenancy = Tenancy(self.pool)

    async def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        fresh = False
        while True:
            try:
                line = await self._acquire(trip, fresh=fresh)
            except httpx.PoolTimeout as error:
                return trip.ended(error, used=False)
            used, line.used = line.used, True
            line.wire.limit.until = before(trip.until)
            try:
                return await self._answer(trip, line)
            except BaseException as error:
                self._give(trip.member, line, keep=False)
                if not isinstance(error, Exception):
                    trip.unsent = not line.wire.connected
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

    async def _answer(self, trip: Trip, line: AsyncLine) -> tuple[httpx.Response, bool]:
        request, lane, headers = trip.request, line.lane, trip.headers()
        body: Any
        if lane is not None and is_plain_request(request, headers):
            head = await ask(lane, request, headers)
            status, headers, extensions = head.status, head.headers, lane.extensions(head)
            body = AsyncLaneBody(lane, request)
        else:
            raw = await line.http.handle_async_request(core_request(request, headers))
            status, headers, extensions, body = raw.status, raw.headers, dict(raw.extensions), raw.stream
        held = not fits(request, status, headers, trip.buffer)
        if held:
            line.wire.limit.until = until = trip.body_until()
            owed = Owed(trip, until, partial(self._release, trip.member, line), partial(self._abandon, line))
            stream: httpx.AsyncByteStream = AsyncResponseStream(body, owed)
        else:
            stream = httpx.ByteStream(b"".join([part async for part in body]))
            await body.aclose()
            self._release(trip.member, line)
        return httpx.Response(status, headers=headers, stream=stream, extensions=extensions), held

    def _pool(self, dialing: Dialing, request: httpx.Request) -> AsyncPool:
        return Pool(partial(dialing.async_line, core_url(request.url).origin), TaskPlace, **dialing.bounds())

    def _give(self, member: Member, line: AsyncLine, *, keep: bool) -> None:
        self.pool.give(member, line, monotonic(), keep=keep)

    def _abandon(self, line: AsyncLine) -> None:
        self.pool.orphan(line)

    def _release(self, member: Member, line: AsyncLine) -> None:
        self._give(member, line, keep=line.idle())

    async def _acquire(self, trip: Trip, *, fresh: bool) -> Any:
        if trip.member not in self.pool:
            self._tenancy.begin(trip.member)
        found = self.pool.take(trip.member, monotonic(), fresh=fresh)
        return await self._wait(found, trip) if isinstance(found, Place) else found

    async def _wait(self, place: Place[Member, Any], trip: Trip) -> Any:
        try:
            await place.wait(clamp(timeout_of(trip.request, "pool"), before(trip.until)))  # type: ignore[attr-defined]  # ours are all TaskPlaces
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


def before(until: float | None) -> float | None:
    """Return the instant at which sockets give up, just before the attempt is cancelled."""
    return None if until is None else until - MARGIN


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
