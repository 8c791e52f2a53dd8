"""One request over a shared connection of HTTP/2: what has to happen, whoever waits for it, threads or tasks.

Each step is a generator that runs with the link's lock held and yields what it needs: a condition, and in which phase
of the request (whose timeout is the caller's) it waits for that. `blocking` and `http.http2.awaiting` wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx

from svcmesh.transport.http.connection.wire import Limit
from svcmesh.transport.http.http2.link import Link
from svcmesh.transport.http.http2.pipe import CHUNK
from svcmesh.transport.http.http2.stream import Headers, Stream

Need = tuple[Callable[[], bool], str]
"""What a step waits for, and in which phase."""

LATE: dict[str, type[httpcore.TimeoutException]] = {
    "connect": httpcore.ConnectTimeout,
    "read": httpcore.ReadTimeout,
    "write": httpcore.WriteTimeout,
}

_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_LEFT_OUT = frozenset({b"host", b"transfer-encoding"})


class Exchange:
    """One request and its answer. Subclasses say how one waits, and how one is told.

    Args:
        link: the connection. limit: by when everything must end.
    """

    def __init__(self, link: Link, limit: Limit) -> None:
        self.link = link
        self.limit = limit
        self.request: Any = None
        self.stream: Stream | None = None
        self._left = False
        self._whole = False
        self.status = 0
        self.part = b""

    def ring(self) -> None:
        """Let whoever waits look again. Called with the lock held."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of the stream, and cancel it where it is not complete; harmless the second time."""
        if self.stream is not None and not self._left and not self.link.inherited:
            self._left = True
            with self.link.lock:
                self.link.release(self.stream)
                self.link.flush()

    def drop(self) -> None:
        """The same from a finalizer."""
        if self.stream is not None:
            self.link.drop(self.stream)

    def timeout(self, phase: str) -> float | None:
        """Return the seconds that ``phase`` may still take."""
        return self.limit.clamp(self.request.extensions.get("timeout", {}).get(phase))

    def greeted(self) -> Iterator[Need]:
        """Wait for the server's first words, which say how much it takes: before them nothing is sent."""
        self.stream = stream = self.link.conversation.greet(self.ring)
        self.link.flush()
        yield lambda: stream.over, "connect"
        self.link.conversation.release(stream)
        self.stream = None
        if stream.failure is not None:
            raise httpcore.ConnectError(stream.failure) from stream.failure

    def asked(self, request: Any) -> Iterator[Need]:
        """Send the head of the request; with a body that follows, `sent` sends it on."""
        end = not has_body(request.headers)
        self._whole = type(request.stream) is httpx.ByteStream
        self.stream = self.link.conversation.open(fields(request), self.ring, end=end)
        self.link.asked()
        if end:
            self.link.flush()
        yield from ()

    def sent(self, part: bytes) -> Iterator[Need]:
        """Send a part of the body, as the server's windows allow. One that has answered already needs no more."""
        stream, link = self.opened, self.link
        left = memoryview(part)
        while left and not stream.over:
            done = link.conversation.send(stream, left[:CHUNK])
            left = left[done:]
            if left or len(part) > CHUNK or not self._whole:  # a short body goes out with its head and its end
                link.flush()
            if not done:
                yield lambda: link.conversation.window(stream) > 0 or stream.over, "write"
            elif link.blocked:
                yield lambda: not link.blocked or stream.over, "write"

    def complete(self) -> Iterator[Need]:
        """Send the end of the body."""
        self.link.conversation.end(self.opened)
        self.link.flush()
        yield from ()

    def answered(self) -> Iterator[Need]:
        """Wait for the head of the answer."""
        stream = self.opened
        yield lambda: stream.headed, "read"
        if stream.status is None:
            raise stream.failure or httpcore.RemoteProtocolError("the answer ended before it began")
        self.status = stream.status

    def read(self) -> Iterator[Need]:
        """Wait for the next part of the body; ``part`` has it then, and is empty at the end."""
        stream = self.opened
        yield lambda: stream.readable, "read"
        self.part = self.link.conversation.take(stream)
        self.link.flush()

    @property
    def opened(self) -> Stream:
        """The stream that `asked` has opened."""
        if self.stream is None:
            raise RuntimeError("nothing has been asked yet")
        return self.stream

    @property
    def idle(self) -> bool:
        """Whether the whole answer has come."""
        return self.stream is not None and self.stream.ended

    def response(self, network: Any, content: Any) -> httpcore.Response:
        """Return the head of the answer as httpcore does."""
        stream = self.opened
        extensions = {"http_version": b"HTTP/2", "network_stream": network, "stream_id": stream.number}
        return httpcore.Response(self.status, headers=stream.headers, content=content, extensions=extensions)


def has_body(headers: Headers) -> bool:
    """Whether a body follows a head with these headers."""
    return any(name.lower() in _LENGTHS for name, _ in headers)


def fields(request: httpcore.Request) -> Headers:
    """Return what HTTP/2 says in place of the request line and the headers. Source: httpcore's `HTTP2Connection`."""
    authority = next((value for name, value in request.headers if name.lower() == b"host"), request.url.host)
    return [
        (b":method", request.method),
        (b":authority", authority),
        (b":scheme", request.url.scheme),
        (b":path", request.url.target),
        *((name.lower(), value) for name, value in request.headers if name.lower() not in _LEFT_OUT),
    ]
