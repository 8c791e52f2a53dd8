"""Waiting for HTTP/2 on asyncio: the loop watches the socket while somebody waits, and calls back what reads for all.

No task is started, and nothing is left with the loop when nobody waits; what a cancelled task holds is given back
without awaiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpcore

from svcmesh.transport.http.connection.alarm import settle
from svcmesh.transport.http.connection.wire import Limit
from svcmesh.transport.http.http2.exchange import LATE, Exchange, Need, has_body
from svcmesh.transport.http.http2.link import Link
from svcmesh.transport.http.http2.pipe import Pipe
from svcmesh.transport.http.http2.trace import traced


class AwaitingLink(Link):
    """A connection that tasks of one loop share."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[AwaitingExchange, None] = {}
        self._writing = False

    def watch(self, exchange: AwaitingExchange) -> None:
        """Have ``exchange`` told of changes."""
        if not self._waiting:
            self._loop.add_reader(self.socket.fileno(), self._readable)
        self._waiting[exchange] = None
        self._arm()

    def unwatch(self, exchange: AwaitingExchange) -> None:
        """Have it told no more."""
        del self._waiting[exchange]
        if not self._waiting:
            self._loop.remove_reader(self.socket.fileno())
        self._arm()

    def _readable(self) -> None:
        with self.lock:
            self.pump()
            self._arm()

    def _writable(self) -> None:
        with self.lock:
            self.flush()
            self._arm()
            for exchange in self._waiting:
                exchange.ring()

    def _arm(self) -> None:
        wanted = self.blocked and bool(self._waiting)
        if wanted and not self._writing:
            self._loop.add_writer(self.socket.fileno(), self._writable)
        elif self._writing and not wanted:
            self._loop.remove_writer(self.socket.fileno())
        self._writing = wanted


class AwaitingExchange(Exchange):
    """One request of a task."""

    link: AwaitingLink

    def __init__(self, link: AwaitingLink, limit: Limit, network: Any) -> None:
        super().__init__(link, limit)
        self._network = network
        self._bell: asyncio.Future[bool] | None = None

    def ring(self) -> None:
        """Let the task look again."""
        if self._bell is not None:
            settle(self._bell, True)

    async def greet(self, request: Any) -> None:
        """Wait for the server's first words."""
        self.request = request
        await self._perform(self.greeted())

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, and return the head of its answer; the body is read from ``stream``."""
        self.request = request
        async with traced(request, "http2.send_request_headers", request=request):
            await self._perform(self.asked(request))
        if has_body(request.headers):
            async with traced(request, "http2.send_request_body", request=request):
                async for part in request.stream:  # type: ignore[union-attr]  # an asynchronous client's
                    await self._perform(self.sent(part))
                await self._perform(self.complete())
        async with traced(request, "http2.receive_response_headers", request=request) as trace:
            await self._perform(self.answered())
            response = self.response(self._network, self)
            trace.result = (response.status, response.headers)
        return response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Hand on what arrives of the body."""
        async with traced(self.request, "http2.receive_response_body", request=self.request):
            while True:
                await self._perform(self.read())
                if not self.part:
                    return
                yield self.part

    async def aclose(self) -> None:
        """Let go of it."""
        self.leave()
        async with traced(self.request, "http2.response_closed", stream_id=self.stream and self.stream.number):
            pass

    async def _perform(self, steps: Iterator[Need]) -> None:
        with self.link.lock:
            for ready, phase in steps:
                if not ready():
                    await self._wait(ready, phase)

    async def _wait(self, ready: Callable[[], bool], phase: str) -> None:
        link, seconds = self.link, self.timeout(phase)
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while not ready():
            self._bell = bell = loop.create_future()
            timer = None if end is None else loop.call_at(end, settle, bell, False)
            link.watch(self)
            link.lock.release()
            try:
                in_time = await bell
            finally:
                link.lock.acquire()
                link.unwatch(self)
                if timer is not None:
                    timer.cancel()
            if not (in_time or ready()):
                raise LATE[phase]("timed out")
