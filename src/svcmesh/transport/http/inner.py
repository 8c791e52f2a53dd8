"""Sending an attempt through a transport that the user brought: it gets the logical URL and is told the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.transport.http.connection.wire import clamp
from svcmesh.transport.http.message import fits
from svcmesh.transport.http.stream import AsyncResponseStream, Owed, ResponseStream, aclose, close
from svcmesh.transport.http.trip import MARGIN, Trip

ENDPOINT = "svcmesh.endpoint"
"""Where the inner transport finds the endpoint: ``request.extensions["svcmesh.endpoint"]``."""

PHASES = ("connect", "read", "write", "pool")


class Inner:
    """A user's blocking transport in place of our connections."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        try:
            request = addressed(trip)
            response = self._transport.handle_request(request)
            if is_complete(response):
                return response, False
            if is_short(response, trip):
                response.stream = httpx.ByteStream(_read(Timely(response.stream, trip.until, request)))
                return response, False
        except Exception as error:  # noqa: BLE001 - whatever a user's transport raises is an end of the attempt
            return trip.ended(error, used=False)
        until = loosen(request, trip)
        response.stream = ResponseStream(Timely(response.stream, until, request), Owed(trip, until, _nothing, _nothing))
        return response, True


class AsyncInner:
    """The same for asyncio."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        try:
            request = addressed(trip)
            response = await self._transport.handle_async_request(request)
            if is_complete(response):
                return response, False
            if is_short(response, trip):
                until = None if trip.until is None else trip.until - MARGIN
                body = AsyncTimely(response.stream, until, request)
                response.stream = httpx.ByteStream(await _read_async(body))
                return response, False
        except Exception as error:  # noqa: BLE001 - whatever a user's transport raises is an end of the attempt
            return trip.ended(error, used=False)
        until = loosen(request, trip)
        response.stream = AsyncResponseStream(
            AsyncTimely(response.stream, until, request), Owed(trip, until, _nothing, _nothing)
        )
        return response, True


class Timely(httpx.SyncByteStream):
    """A body that must have come by an instant of the machine's clock; None: whenever it comes.

    A user's stream cannot be woken while it waits for bytes, so that it ends with the first that come too late, or at
    its own read timeout, which is what was left when the headers came.
    """

    def __init__(self, stream: Any, until: float | None, request: httpx.Request) -> None:
        self._stream = stream
        self._until = until
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what comes in time."""
        for part in self._stream:
            if self._until is not None and monotonic() >= self._until:
                raise httpx.ReadTimeout("the body was still on its way at the deadline", request=self._request)
            yield part

    def close(self) -> None:
        """Close the body."""
        close(self._stream)


class AsyncTimely(httpx.AsyncByteStream):
    """The same for asyncio, where whoever waits can be woken."""

    def __init__(self, stream: Any, until: float | None, request: httpx.Request) -> None:
        self._stream = stream
        self._until = until
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Hand on what comes in time."""
        parts = aiter(self._stream)
        while True:
            try:
                async with asyncio.timeout(None if self._until is None else self._until - monotonic()):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if self._until is None or monotonic() < self._until:
                    raise  # the transport's own
                late = "the body was still on its way at the deadline"
                raise httpx.ReadTimeout(late, request=self._request) from error
            yield part

    async def aclose(self) -> None:
        """Close the body."""
        await aclose(self._stream)


def addressed(trip: Trip) -> httpx.Request:
    """Return the request of a trip with its endpoint, and with timeouts that end with the attempt."""
    request = trip.request
    extensions: dict[str, Any] = {**request.extensions, ENDPOINT: trip.member.endpoint}
    if trip.until is not None:
        given = extensions.get("timeout", {})
        extensions["timeout"] = {phase: clamp(given.get(phase), trip.until) for phase in PHASES}
    return httpx.Request(
        request.method, request.url, headers=trip.headers(), stream=request.stream, extensions=extensions
    )


def loosen(request: httpx.Request, trip: Trip) -> float | None:
    """Let the timeouts of a request that was answered end with the body, not with the attempt; return when that is.

    Transports look for them in the request's extensions whenever they begin to read, so they are changed in place.
    """
    until = trip.body_until()
    if trip.until is not None:
        given = trip.request.extensions.get("timeout", {})
        request.extensions["timeout"].update({phase: clamp(given.get(phase), until) for phase in PHASES})
    return until


def is_short(response: httpx.Response, trip: Trip) -> bool:
    """Whether the body is to be read inside the attempt, as `fits` has it for our own connections."""
    return fits(trip.request, response.status_code, response.headers.raw, trip.buffer)


def is_complete(response: httpx.Response) -> bool:
    """Whether a response came with its body read, as those of `httpx.MockTransport` do: nobody will close it."""
    return response.is_stream_consumed or hasattr(response, "_content")


def _read(body: Timely) -> bytes:
    try:
        return b"".join(body)
    finally:
        body.close()


async def _read_async(body: AsyncTimely) -> bytes:
    try:
        return b"".join([part async for part in body])
    finally:
        await body.aclose()


def _nothing() -> None:
    """Release nothing: the inner transport's response holds whatever is to be released."""
