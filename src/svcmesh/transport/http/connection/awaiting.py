"""Sending one attempt over our own connections of an asyncio loop: as `blocking`, and cancellable anywhere.

Whatever an attempt holds is given back by code that never awaits, so that no cancellation can come between.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import httpcore
import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.keeper import Keeper
from svcmesh.transport.http.connection.lane import is_plain_request
from svcmesh.transport.http.connection.lane_awaiting import AsyncLaneBody, ask
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.connection.pool import Place, Pool
from svcmesh.transport.http.connection.wire import clamp
from svcmesh.transport.http.message import core_request, fits, timeout_of
from svcmesh.transport.http.stream import AsyncResponseStream, WholeBody
from svcmesh.transport.http.trip import MARGIN, Trip


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


class AsyncConnections(Keeper):
    """Connections for the tasks of one loop."""

    async def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        while True:
            try:
                line = await self._acquire(trip)
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
                outcome = trip.failed(error, used=used)
            if outcome is not None:
                return outcome

    async def _answer(self, trip: Trip, line: Any) -> tuple[httpx.Response, bool]:
        request, lane, headers = trip.request, line.lane, trip.headers()
        body: Any
        if lane is not None and is_plain_request(request, headers):
            head = await ask(lane, request, headers)
            status, headers, length, extensions = head.status, head.headers, head.length, lane.extensions(head)
            body = AsyncLaneBody(lane, request)
        else:
            raw = await line.http.handle_async_request(core_request(request, headers))
            status, headers, length = raw.status, raw.headers, -1
            extensions, body = dict(raw.extensions), raw.stream
        held = not fits(request, status, headers, trip.buffer, length)
        stream: httpx.AsyncByteStream
        if held:
            stream = AsyncResponseStream(body, self._owed(trip, line))
        else:
            stream = WholeBody(b"".join([part async for part in body]))
            await body.aclose()
            self._release(trip.member, line)
        return httpx.Response(status, headers=headers, stream=stream, extensions=extensions), held

    def _pool(self, dialing: Dialing, origin: httpcore.Origin) -> Pool[Member, Any]:
        return Pool(partial(dialing.async_line, origin), TaskPlace, **dialing.bounds())

    async def _acquire(self, trip: Trip) -> Any:
        found = self._take(trip)
        if not isinstance(found, TaskPlace):
            return found
        try:
            await found.wait(clamp(timeout_of(trip.request, "pool"), before(trip.until)))
        except BaseException:
            self._give_up(found)
            raise
        return self._taken(found, trip)


def before(until: float | None) -> float | None:
    """Return the instant at which sockets give up, just before the attempt is cancelled."""
    return None if until is None else until - MARGIN


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
