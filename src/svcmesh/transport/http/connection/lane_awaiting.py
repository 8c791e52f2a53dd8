"""The short way on asyncio, see `lane`: two awaits for a request with a short answer."""

from __future__ import annotations

from typing import Self

import httpcore
import httpx

from svcmesh.transport.http.connection.lane import CHUNK, Lane
from svcmesh.transport.http.connection.plain import Head, Headers
from svcmesh.transport.http.message import timeout_of


async def ask(lane: Lane, request: httpx.Request, headers: Headers) -> Head:
    """Send a plain request, and return the head of its answer."""
    pieces = lane.ask(request, headers)
    try:
        for piece in pieces:
            await lane.stream.write(piece, timeout_of(request, "write"))
    except httpcore.WriteError:
        lane.refused()  # servers may answer, and close, before they have read everything
    head = None
    while head is None:  # nothing has come yet, so there is nothing to ask for first
        lane.feed(await lane.stream.read(CHUNK, timeout_of(request, "read")))
        head = lane.head()
    return head


class AsyncLaneBody:
    """The body of the answer to a plain request."""

    def __init__(self, lane: Lane, request: httpx.Request) -> None:
        self._lane = lane
        self._timeout = timeout_of(request, "read")

    def __aiter__(self) -> Self:
        """Return itself: a generator would cost as much as all that is awaited here."""
        return self

    async def __anext__(self) -> bytes:
        """Return what arrives next."""
        while (part := self._lane.part()) is None:
            self._lane.feed(await self._lane.stream.read(CHUNK, self._timeout))
        if not part:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        """Leave the connection to the next request, if it has come to its end."""
        self._lane.over()
