"""A conversation of HTTP/2 on a socket, without waiting: what threads and tasks have in common there.

Everything happens under one lock that nobody holds while waiting. So whoever sees that the socket is ready reads for
all streams and tells those that have changed.

A request that is given up ends its stream and not the connection, which may have been dead all the time: a host that
went away without a word, a firewall that forgot. Its next request would fail as well, and so on for as long as there
are any. So one that has kept silent for too long gets no more.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from threading import Lock
from time import monotonic

import httpcore

from svcmesh.transport.http.http2.conversation import Conversation
from svcmesh.transport.http.http2.pipe import CHUNK, Pipe
from svcmesh.transport.http.http2.stream import Stream

SILENCE = 1.0
"""Seconds for which a server that was asked may say nothing at all. When a request is given up after that, the
connection takes no other one: what it has may go on, and a new connection to a server that is only slow costs little.
"""


class Link:
    """One connection.

    Attributes:
        lock: held for everything below, except where it says otherwise.
        conversation: the streams. blocked: something is to be sent that the socket does not take yet.

    Threads: any, with the lock.
    """

    def __init__(self, pipe: Pipe) -> None:
        self.lock = Lock()
        self.conversation = Conversation()
        self.blocked = False
        self._pipe = pipe
        self._unsent = b""
        self._dropped: deque[Stream] = deque()
        self._silent_since: float | None = None
        self._process = os.getpid()

    @property
    def socket(self) -> socket.socket:
        """What to wait for."""
        return self._pipe.socket

    @property
    def inherited(self) -> bool:
        """Whether this is a forked child, and the connection its parent's: nothing may be said on it. Needs no lock.

        A thread of the parent, of which there is none here, may hold the lock for ever.
        """
        return os.getpid() != self._process

    def pump(self) -> None:
        """Read what has come, answer it, and tell those whom it concerns."""
        self._read()
        self.flush()

    def flush(self) -> None:
        """Send what can be sent, and tell those whom it concerns if that fails."""
        while self._dropped:
            self.release(self._dropped.popleft())
        self._write()
        for stream in self.conversation.touched():
            stream.ring()

    def asked(self) -> None:
        """Note that a request was made: from now on something should come."""
        if self._silent_since is None:
            self._silent_since = monotonic()

    def release(self, stream: Stream) -> None:
        """Let go of a stream, and of the connection for further ones where this one was waited for in silence."""
        given_up, since = not stream.over, self._silent_since
        if given_up and since is not None and monotonic() - since >= SILENCE:
            self.conversation.retire()
        self.conversation.release(stream)
        if not given_up and not self.conversation.busy:
            self._silent_since = None  # nothing is to come

    def drop(self, stream: Stream) -> None:
        """Cancel a stream that nobody refers to any more. Needs no lock: a finalizer may run while its thread holds it.

        Where somebody else holds it, the stream goes with the next `flush`.
        """
        self._dropped.append(stream)
        if not self.inherited and self.lock.acquire(blocking=False):
            try:
                while self._dropped:
                    self.release(self._dropped.popleft())
                self._write()
            finally:
                self.lock.release()

    def goodbye(self) -> None:
        """Tell the server, if that takes no time, that nothing more will come; the socket is closed by its owner."""
        if not self.inherited and self.lock.acquire(blocking=False):
            try:
                self.conversation.goodbye()
                self._write()
            finally:
                self.lock.release()

    def _read(self) -> None:
        try:
            while (data := self._pipe.receive()) is not None:
                self.conversation.receive(data)
                self._silent_since = monotonic() if self.conversation.busy else None
                if not data or (self._pipe.whole and len(data) < CHUNK):
                    return
        except (OSError, ValueError) as error:  # ValueError: the socket has been closed
            cause = error
            self._break(httpcore.ReadError, cause)

    def _write(self) -> None:
        self._unsent += self.conversation.outgoing()
        try:
            while self._unsent:
                done = self._pipe.send(self._unsent)
                if not done:
                    break
                self._unsent = self._unsent[done:]
        except (OSError, ValueError) as error:
            cause = error
            self._unsent = b""
            self._read()  # servers may answer, and close, before they have read everything
            self._break(httpcore.WriteError, cause)
        self.blocked = bool(self._unsent)

    def _break(self, kind: type[httpcore.NetworkError], cause: Exception) -> None:
        self.conversation.fail(lambda: kind(cause))
        self._unsent = b""
        with contextlib.suppress(OSError):  # wakes whoever waits for it; TLS has nothing to say any more
            socket.socket.shutdown(self._pipe.socket, socket.SHUT_RDWR)
