"""Sending an attempt through a transport that the user brought: it gets the logical URL and is told the endpoint."""

from __future__ import annotations

from typing import Any

import httpx

from svcmesh.core.outcome import Outcome
from svcmesh.transport.http_outcome import of_error
from svcmesh.transport.http_stream import AsyncResponseStream, Owed, ResponseStream
from svcmesh.transport.http_trip import Trip
from svcmesh.transport.http_wire import clamp

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
            response = self._transport.handle_request(addressed(trip))
        except Exception as error:  # noqa: BLE001 - whatever a user's transport raises is an end of the attempt
            return of_error(error)
        if is_complete(response):
            return response, False
        response.stream = ResponseStream(response.stream, Owed(trip, None, _nothing, _nothing))
        return response, True


class AsyncInner:
    """The same for asyncio."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, trip: Trip) -> tuple[httpx.Response, bool] | Outcome:
        """Make one attempt; return the answer and whether its body stays in flight, or how it ended without one."""
        try:
            response = await self._transport.handle_async_request(addressed(trip))
        except Exception as error:  # noqa: BLE001 - whatever a user's transport raises is an end of the attempt
            return of_error(error)
        if is_complete(response):
            return response, False
        response.stream = AsyncResponseStream(response.stream, Owed(trip, None, _nothing, _nothing))
        return response, True


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


def is_complete(response: httpx.Response) -> bool:
    """Whether a response came with its body read, as those of `httpx.MockTransport` do: nobody will close it."""
    return response.is_stream_consumed or hasattr(response, "_content")


def _nothing() -> None:
    """Release nothing: the inner transport's response holds whatever is to be released."""
