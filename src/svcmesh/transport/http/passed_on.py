"""What carries requests to hosts that no service serves: a stock transport, made when the first of them comes.

It is ours, unlike one that the user gave, so a forked child has one of its own, and on asyncio each event loop: two
processes that write to one connection read each other's answers, and one loop cannot use what another has connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from threading import Lock
from typing import Any

import httpx

from svcmesh.transport.http.patched import unseen, unseen_async

_closing: set[asyncio.Task[None]] = set()
"""A loop itself refers to its tasks weakly only."""


class PassedOn:
    """Hosts that no service serves, for blocking calls.

    Args:
        arguments: of ``httpx.HTTPTransport``.

    Threads: any.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._made: httpx.HTTPTransport | None = None
        self._lock = Lock()

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` to whom its URL names."""
        with self._lock:
            if self._made is None:
                self._made = httpx.HTTPTransport(**self._arguments)
            made = self._made
        return unseen(made, request)

    def close(self) -> None:
        """Close all connections; the next request makes new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def forget(self) -> None:
        """In a forked child: close its copies of the sockets, without a word to the other side.

        A connection's own ``close`` says nothing on the wire and takes no lock, unlike the pool's, which a thread that
        does not exist any more may hold.
        """
        made, self._made, self._lock = self._made, None, Lock()
        pool: Any = getattr(made, "_pool", None)
        for connection in getattr(pool, "connections", ()):
            with suppress(Exception):  # what cannot be closed is closed when it is collected
                connection.close()


class AsyncPassedOn:
    """Hosts that no service serves, for the calls of one event loop; closed with that loop, if not before.

    A loop that ends closes the asynchronous generators that were begun on it (`asyncio.run` and uvicorn do, by
    ``loop.shutdown_asyncgens``), while it can still close connections. So one of those holds the transport.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._made = httpx.AsyncHTTPTransport(**arguments)
        self._keeper: Any = None

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` to whom its URL names."""
        if self._keeper is None:
            self._keeper = _kept(self._made)
            await anext(self._keeper)  # does not suspend
        return await unseen_async(self._made, request)

    async def aclose(self) -> None:
        """Close all connections."""
        keeper = self._keeper
        if keeper is not None and not keeper.ag_running:  # else the loop is just doing so
            await keeper.aclose()

    def close_from_elsewhere(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close all connections as soon as ``loop``, whose they are, gets round to it. Threads: any."""
        with suppress(RuntimeError):  # it has been closed, and its connections with it
            loop.call_soon_threadsafe(self._begin_to_close, loop)

    def _begin_to_close(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self.aclose())
        _closing.add(task)
        task.add_done_callback(_closing.discard)


async def _kept(transport: httpx.AsyncHTTPTransport) -> AsyncGenerator[None, None]:
    """Close ``transport`` when it is closed itself."""
    try:
        yield
    finally:
        await transport.aclose()
