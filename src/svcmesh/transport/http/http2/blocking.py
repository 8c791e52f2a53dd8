"""Waiting for HTTP/2 with threads: one of those that wait watches the socket for all, the others until they are told.

No thread is started. Who watches goes when it has what it needs, and tells the next one to watch.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from threading import Lock
from time import monotonic
from typing import Any

import httpcore

from svcmesh.transport.http.connection.wire import Limit
from svcmesh.transport.http.http2.exchange import LATE, Exchange, Need, has_body
from svcmesh.transport.http.http2.link import Link
from svcmesh.transport.http.http2.pipe import Pipe
from svcmesh.transport.http.http2.trace import traced

LONGEST = 86400.0
"""Seconds that one wait may take: neither locks nor poll know longer ones than some days. Then it waits again."""


class BlockingLink(Link):
    """A connection that threads share.

    Attributes:
        watched: one of them watches the socket. waiting: the others.
    """

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe)
        self.watched = False
        self.waiting: dict[BlockingExchange, None] = {}


class BlockingExchange(Exchange):
    """One request of a thread."""

    link: BlockingLink

    def __init__(self, link: BlockingLink, limit: Limit, network: Any) -> None:
        super().__init__(link, limit)
        self._network = network
        self._bell = Lock()
        self._bell.acquire()

    def ring(self) -> None:
        """Let the thread look again."""
        if self._bell.locked():
            self._bell.release()

    def greet(self, request: Any) -> None:
        """Wait for the server's first words."""
        self.request = request
        self._perform(self.greeted())

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, and return the head of its answer; the body is read from ``stream``."""
        self.request = request
        with traced(request, "http2.send_request_headers", request=request):
            self._perform(self.asked(request))
        if has_body(request.headers):
            with traced(request, "http2.send_request_body", request=request):
                for part in request.stream:  # type: ignore[union-attr]  # a blocking client's
                    self._perform(self.sent(part))
                self._perform(self.complete())
        with traced(request, "http2.receive_response_headers", request=request) as trace:
            self._perform(self.answered())
            response = self.response(self._network, self)
            trace.result = (response.status, response.headers)
        return response

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what arrives of the body."""
        with traced(self.request, "http2.receive_response_body", request=self.request):
            while True:
                self._perform(self.read())
                if not self.part:
                    return
                yield self.part

    def close(self) -> None:
        """Let go of it."""
        with traced(self.request, "http2.response_closed", stream_id=self.stream and self.stream.number):
            self.leave()

    def _perform(self, steps: Iterator[Need]) -> None:
        with self.link.lock:
            for ready, phase in steps:
                if not ready():
                    self._wait(ready, phase)

    def _wait(self, ready: Callable[[], bool], phase: str) -> None:
        link, seconds = self.link, self.timeout(phase)
        end = None if seconds is None else monotonic() + seconds
        try:
            while not ready():
                rest = None if end is None else min(LONGEST, end - monotonic())
                if rest is not None and rest <= 0:
                    raise LATE[phase]("timed out")
                if not link.watched:
                    self._watch(rest)
                elif link.blocked:
                    self._outside(lambda: ready_to(link, select.POLLOUT, rest))  # noqa: B023 - called at once
                    link.flush()
                else:
                    self._be_told(rest)
        finally:
            if not link.watched and link.waiting:
                next(iter(link.waiting)).ring()

    def _watch(self, rest: float | None) -> None:
        link = self.link
        link.watched = True
        events = select.POLLIN | (select.POLLOUT if link.blocked else 0)
        try:
            self._outside(lambda: ready_to(link, events, rest))
        finally:
            link.watched = False
        link.pump()

    def _be_told(self, rest: float | None) -> None:
        link = self.link
        link.waiting[self] = None
        try:
            self._outside(lambda: self._bell.acquire(timeout=-1 if rest is None else rest))
        finally:
            del link.waiting[self]

    def _outside(self, wait: Callable[[], object]) -> None:
        """Wait without the lock."""
        self.link.lock.release()
        try:
            wait()
        finally:
            self.link.lock.acquire()


def ready_to(link: Link, events: int, seconds: float | None) -> None:
    """Block until the socket is ready, or the time is over."""
    poll = select.poll()
    poll.register(link.socket, events)
    poll.poll(None if seconds is None else max(1, int(seconds * 1000 + 0.999)))
