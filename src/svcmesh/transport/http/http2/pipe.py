"""Sockets that never wait, with TLS or without: what there is to read is read, what can be sent is sent.

Many requests share a connection of HTTP/2, so that none of them may keep it busy by waiting. How one waits for the
socket is left to threads and tasks; also, OpenSSL's objects must not be read and written by two threads at once, which
is easy to see to where neither takes time.
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

from svcmesh.transport.http.connection.wire import WireStream
from svcmesh.transport.http.connection.wire_asyncio import AsyncWireStream, Tls

CHUNK = 65536

_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_ENDED = (ssl.SSLZeroReturnError, ssl.SSLEOFError)


class Pipe(Protocol):
    """A connected socket. ``whole``: less than was asked for is all there is. Threads: one at a time."""

    socket: socket.socket
    whole: bool

    def receive(self) -> bytes | None:
        """Return what has come, nothing at the end; None: there is nothing now.

        Raises:
            OSError: the connection is broken.
        """

    def send(self, data: bytes) -> int:
        """Send what can be sent now; return how much that was. What was not is given again, maybe with more after it.

        Raises:
            OSError: the connection is broken.
        """


class SocketPipe:
    """A plain socket, or one that does TLS itself."""

    def __init__(self, stream: WireStream | AsyncWireStream) -> None:
        self.socket: socket.socket = stream.get_extra_info("socket")
        self.socket.setblocking(False)
        self.whole = not isinstance(self.socket, ssl.SSLSocket)

    def receive(self) -> bytes | None:
        """Return what has come."""
        try:
            return self.socket.recv(CHUNK)
        except _LATER:
            return None
        except _ENDED:
            return b""

    def send(self, data: bytes) -> int:
        """Send what can be sent now."""
        try:
            return self.socket.send(data)
        except _LATER:
            return 0


class MemoryPipe:
    """A plain socket under TLS in memory, as connections of asyncio have it."""

    whole = False

    def __init__(self, stream: AsyncWireStream, tls: Tls) -> None:
        self.socket: socket.socket = stream.get_extra_info("socket")
        self._tls = tls
        self._taken = 0  # plain bytes whose encryption is still here
        self._left = b""

    def receive(self) -> bytes | None:
        """Return what has come."""
        while True:
            try:
                return self._tls.object.read(CHUNK)
            except ssl.SSLWantReadError:
                if not self._fill():
                    return None
            except _ENDED:
                return b""

    def send(self, data: bytes) -> int:
        """Send what can be sent now: a part of ``data`` counts once all of its encryption has gone."""
        if not self._taken:
            part = data[:CHUNK]
            self._tls.object.write(part)
            self._taken, self._left = len(part), self._tls.drain()
        while self._left:
            try:
                self._left = self._left[self.socket.send(self._left) :]
            except _LATER:
                return 0
        done, self._taken = self._taken, 0
        return done

    def _fill(self) -> bool:
        try:
            self._tls.feed(self.socket.recv(CHUNK))
        except _LATER:
            return False
        return True


def pipe_of(stream: WireStream | AsyncWireStream) -> Pipe:
    """Return what lies under a connection, for somebody who does not wait there."""
    if isinstance(stream, AsyncWireStream) and stream.tls is not None:
        return MemoryPipe(stream, stream.tls)
    return SocketPipe(stream)
