"""One stock asyncio channel per endpoint and event loop: such a channel belongs to the loop that it was made on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc.aio

from svcmesh.transport.grpc.aio.lean import LeanMethod, lean
from svcmesh.transport.grpc.aio.running import Running
from svcmesh.transport.grpc.channels import MOST_METHODS, EndpointChannel, Wrap
from svcmesh.transport.grpc.method import Method, is_bare
from svcmesh.transport.grpc.settings import Settings, target


class LoopChannel(EndpointChannel):
    """The stock channel to one endpoint on one loop. Threads: its loop's.

    Args:
        plain: the calls of this loop that have no stock call, which would be cancelled with its channel.
    """

    __slots__ = ("_lean", "_plain")

    def __init__(self, channel: Any, wrap: Wrap | None, plain: set[Any]) -> None:
        super().__init__(channel, wrap)
        self._lean: dict[Method, LeanMethod | None] = {}
        self._plain = plain

    def lean(self, method: Method) -> LeanMethod | None:
        """Return how calls are made without call objects; None where they are made with them. Cost: as `bound`."""
        try:
            return self._lean[method]
        except KeyError:
            if len(self._lean) >= MOST_METHODS:
                self._lean.clear()
            found = self._lean[method] = lean(self.bound(method), method.serializer)
            return found

    def takes_writing(self, method: Method) -> bool:
        """Whether requests may be written to calls: unless somebody's interceptors are to get the iterator of them."""
        return is_bare(self.channel, method.kind)

    async def aclose(self) -> None:
        """Close the channel; what still runs on it ends CANCELLED."""
        for call in list(self._plain):
            if call.channel is self:
                call.cancel()
        await self.channel.close()


class LoopChannels:
    """The stock channels to one endpoint. Threads: each loop asks for its own only."""

    __slots__ = ("_address", "_by_loop", "_running", "_settings", "_wrap")

    def __init__(self, running: Running, settings: Settings, address: str, wrap: Wrap | None = None) -> None:
        self._running = running
        self._settings = settings
        self._address = address
        self._wrap = wrap
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopChannel] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopChannel:
        """Return the channel of ``loop``, which is running; made at first need."""
        found = self._by_loop.get(loop)
        if found is None:
            for ended in [other for other in list(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(ended, None)
            plain = self._running.on(loop).kept
            found = self._by_loop[loop] = LoopChannel(_channel(self._settings, self._address), self._wrap, plain)
        return found

    def here(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Return the stock channel of ``loop``, None when it has none."""
        found = self._by_loop.get(loop)
        return None if found is None else found.channel

    def state_on(self, loop: asyncio.AbstractEventLoop) -> grpc.ChannelConnectivity | None:
        """Return the state of the channel of ``loop``, which is running; None when it has none."""
        channel = self.here(loop)
        return None if channel is None else channel.get_state()

    def state(self) -> grpc.ChannelConnectivity:
        """Return the state of the running loop's channel; a closed one's where there is none."""
        channel = self.here(asyncio.get_running_loop())
        return grpc.ChannelConnectivity.SHUTDOWN if channel is None else channel.get_state()

    def close(self) -> None:
        """Close all channels, each on its own loop; one whose loop has ended is dropped, which closes it."""
        while self._by_loop:
            loop, kept = self._by_loop.popitem()
            if not loop.is_closed():
                _on(loop, kept)

    def retire(self) -> None:
        """Let go of all channels, each on its own loop: the calls on them go on, and end them with the last one."""
        while self._by_loop:
            loop, kept = self._by_loop.popitem()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_let_go, [kept])
            del kept  # the loop's is the last reference

    def renew(self) -> bool:
        """Return whether some channel waits out its back-off. All loops' are made anew, and calls end on these."""
        waiting = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        return any(kept.channel.get_state() is waiting for kept in list(self._by_loop.values()))

    async def aclose(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the channel of ``loop``, which is running, now, and the others as `close` does."""
        kept = self._by_loop.pop(loop, None)
        if kept is not None:
            await kept.aclose()
        self.close()


def _let_go(kept: list[LoopChannel]) -> None:
    kept.clear()


def _on(loop: asyncio.AbstractEventLoop, kept: LoopChannel) -> None:
    def start() -> None:
        task = loop.create_task(kept.aclose())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:  # it was closed just now
        return


_closing: set[asyncio.Task[None]] = set()
"""Loops refer to their tasks weakly; these must live until they are done."""


def _channel(settings: Settings, address: str) -> Any:
    where, options, compression = target(address), settings.arguments, settings.compression
    credentials = settings.channel_credentials
    if credentials is None:
        return grpc.aio.insecure_channel(where, options, compression)
    return grpc.aio.secure_channel(where, credentials, options, compression)
