"""The short way on blocking connections, see `lane`."""

from __future__ import annotations

from collections.abc import Iterator

import httpcore
import httpx

from svcmesh.transport.http.connection.lane import CHUNK, Lane
from svcmesh.transport.http.connection.plain import Head, Headers
from svcmesh.transport.http.message import timeout_of


def ask(lane: Lane, request: httpx.Request, headers: Headers) -> Head:
    """Send a plain request, and return the head of its answer."""
    pieces = lane.ask(request, headers)
    try:
        for piece in pieces:
            lane.stream.write(piece, timeout_of(request, "write"))
    except httpcore.WriteError:
        lane.refused()  # servers may answer, and close, before they have read everything
    head = None
    while head is None:  # nothing has come yet, so there is nothing to ask for first
        lane.feed(lane.stream.read(CHUNK, timeout_of(request, "read")))
        head = lane.head()
    return head


class LaneBody:
    """The body of the answer to a plain request."""

    def __init__(self, lane: Lane, request: httpx.Request) -> None:
        self._lane = lane
        self._timeout = timeout_of(request, "read")

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what arrives."""
        while (part := self._lane.part()) != b"":
            if part is None:
                self._lane.feed(self._lane.stream.read(CHUNK, self._timeout))
            else:
                yield part

    def close(self) -> None:
        """Leave the connection to the next request, if it has come to its end."""
        self._lane.over()
