"""The short way over an HTTP/1.1 connection of httpcore that has carried a request before.

httpcore takes a plain request through eight locks and five traces, and on asyncio each lock lets the loop turn; that is
most of what a request costs beyond httpx itself. Our pool hands a connection to one request at a time, so none of the
locks is needed: everything goes out at once, and what comes back is read where it is wanted; by `plain`, and where
that is at a loss by h11, which httpcore holds. What cannot take this way at all (the first request, which connects;
bodies that are produced while they are sent; upgrades; a request that is traced, or logged) takes httpcore's own, on
the same connection.

What is shared with httpcore is the conversation of h11 alone, a private attribute of httpcore 1.0: between requests it
is idle, whichever way they take. `lane_of` finds no way where it is not there, and all requests then take httpcore's.

Cost: on asyncio 0.4 of httpcore's way, 0.5 where h11 reads the answer, httpx's own part included.
"""

from __future__ import annotations

import logging
from typing import Any

import h11
import httpcore
import httpx

from svcmesh.transport.http.connection.plain import Head, Headers, read, upgrades, written

CHUNK = 65536
"""Bytes read at once, as httpcore's. A body up to this size is sent together with its headers."""

Asked = tuple[str, Any, Headers, bytes]
"""A request: method, target, headers and body."""

_LOGGER = logging.getLogger("httpcore.http11")


class Lane:
    """A conversation between two requests, or in the middle of one; its caller sends and reads through ``stream``.

    h11 hears of a request only when that, or the answer, is not plain (see `plain`), and then of all of it. So one of
    two knows how far things are: h11, or ``_asked`` and ``_left``, the request that it was not told of until its answer
    begins, and the bytes that are then still to come; fewer than none when there were more than announced.

    Threads: one at a time.
    """

    __slots__ = ("_asked", "_h11", "_head", "_left", "_part", "stream")

    _head: Head

    def __init__(self, conversation: h11.Connection, stream: Any) -> None:
        self._h11 = conversation
        self.stream = stream
        self._asked: Asked | None = None
        self._left: int | None = None
        self._part = b""

    @property
    def idle(self) -> bool:
        """Whether the last request came to its end in good order, so that there may be another one.

        What has come after the end of the answer, unasked, would be taken for the next one: there is none then.
        """
        if self._asked is not None or self._left is not None:
            return self._left == 0
        conversation = self._h11
        idle = conversation.our_state is h11.IDLE and conversation.their_state is h11.IDLE
        return idle and not conversation.trailing_data[0]

    def ask(self, request: httpx.Request, headers: Headers) -> list[bytes]:
        """Return what to send for a plain request, in pieces.

        Raises:
            httpcore.LocalProtocolError: a name or a value that HTTP has no way to say.
            h11.LocalProtocolError: another length than the headers announce; httpcore lets it through, too.
        """
        target = request.extensions.get("target", request.url.raw_path)
        body = b"".join(request.stream)  # type: ignore[arg-type]  # a ByteStream is of both kinds
        self._asked = asked = request.method, target, headers, body
        self._left = None
        head = written(*asked)
        pieces = self._tell() if head is None else [head, body]
        return pieces if len(body) > CHUNK else [b"".join(pieces)]

    def refused(self) -> None:
        """Note that not everything could be sent: there may be an answer all the same, but no request after it."""
        self._tell()
        self._h11.send_failed()

    def feed(self, received: bytes) -> None:
        """Take what has been read; nothing at all is the end of the connection.

        Raises:
            httpcore.RemoteProtocolError: it ended before an answer began, or in the middle of a plain one.
        """
        if self._left is not None:
            self._take(received, self._left)
        elif self._asked is not None and (found := read(received, self._asked[0])) is not None:
            self._asked, (self._head, body) = None, found
            self._part, self._left = body[: self._head.length], self._head.length - len(body)
        else:
            self._tell()
            if not received and self._h11.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            self._h11.receive_data(received)

    def head(self) -> Head | None:
        """Return the head of the answer; None: it has not come yet.

        Raises:
            httpcore.RemoteProtocolError: what has come is not HTTP.
        """
        if self._left is not None:
            return self._head
        while True:
            event = self._next()
            if type(event) is h11.Response:
                return Head(event.status_code, event.reason, event.http_version, event.headers.raw_items())
            if event is h11.NEED_DATA:
                return None

    def part(self) -> bytes | None:
        """Return the next part of the body; nothing at its end; None: it has not come yet.

        Raises:
            httpcore.RemoteProtocolError: what has come is not HTTP, or ended too early.
        """
        if self._left is not None:
            part, self._part = self._part, b""
            return part or (None if self._left > 0 else b"")
        while True:
            event = self._next()
            if type(event) is h11.Data and event.data:
                return bytes(event.data)
            if event is h11.NEED_DATA:
                return None
            if type(event) is h11.EndOfMessage or event is h11.PAUSED:
                return b""

    def over(self) -> None:
        """Get ready for the next request, if this one is over; harmless the second time."""
        if self._left is None and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()

    def extensions(self, head: Head) -> dict[str, Any]:
        """Return what httpcore tells of an answer beside its status and its headers."""
        return {
            "http_version": b"HTTP/" + head.version,
            "reason_phrase": head.reason,
            "network_stream": self.stream,
        }

    def _tell(self) -> list[bytes]:
        """Let h11 know of the request, unless it does; return the pieces of it."""
        if self._asked is None:
            return []
        (method, target, headers, body), self._asked = self._asked, None
        try:
            first = h11.Request(method=method, target=target, headers=headers)
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(error) from error
        events = (first, h11.Data(data=body), h11.EndOfMessage()) if body else (first, h11.EndOfMessage())
        return [self._h11.send(event) or b"" for event in events]

    def _take(self, received: bytes, left: int) -> None:
        """Take what has come of the body of a plain answer, of which ``left`` bytes had not."""
        if not received:
            whole = self._head.length
            raise httpcore.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {whole - left} bytes, expected {whole})"  # h11's words
            )
        self._part, self._left = received[:left], left - len(received)

    def _next(self) -> Any:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise httpcore.RemoteProtocolError(error) from error


def lane_of(connection: Any, stream: Any) -> Lane | None:
    """Return the short way over a connection of httpcore, which goes through ``stream``.

    None: there is none, because it speaks HTTP/2, or not yet, because it has not been connected.
    """
    conversation = getattr(getattr(connection, "_connection", connection), "_h11_state", None)
    return Lane(conversation, stream) if isinstance(conversation, h11.Connection) else None


def is_plain_request(request: httpx.Request, headers: Headers) -> bool:
    """Whether ``request`` may take the short way; ``headers`` are those that will be sent."""
    return (
        type(request.stream) is httpx.ByteStream
        and "trace" not in request.extensions
        and request.method != "CONNECT"
        and request.method.isascii()
        and not _LOGGER.isEnabledFor(logging.DEBUG)
        and not upgrades(tuple(headers))
    )
