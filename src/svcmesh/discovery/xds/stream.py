"""One stream to a control plane, by gRPC: bytes there and back, and one kind of error for whatever ends it.

It is gRPC's blocking stream, read by a thread of its own, and not the one of grpc.aio. That has one queue of events for
all loops of a process: with a stream on the mesh's loop, the loop of an application that uses grpc.aio itself would log
errors about events that were never its own, and a mesh that is closed would leave events behind that no loop takes
(grpc/grpc#25364). The thread ends with the stream.

The channel is made for it and closed with it, so that nothing of a connection that failed (its back-off, its place
among those that are shared) outlives the attempt. When to try again is the engine's business.

Source: gRPC, proposal A27 for the keepalive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.pace import SLOWLY
from svcmesh.discovery.xds.bootstrap import Server

if TYPE_CHECKING:
    import grpc

LARGEST = 64 * 1024 * 1024
"""Bytes that a response may have."""

_UNREAD = 2  # responses that may wait for the loop; more stay with gRPC, which lets the control plane wait
_UNSENT = 10_000  # requests that may wait for a control plane that does not read
_KEEPALIVE = 300_000  # ms; servers end connections on which they are pinged more often than every 5 min
_PING_ANSWERED = 20_000  # ms
_SHOWN = 300  # characters of a message that an error shows

_OPTIONS = (
    ("grpc.keepalive_time_ms", _KEEPALIVE),
    ("grpc.keepalive_timeout_ms", _PING_ANSWERED),
    ("grpc.http2.ping_timeout_ms", _PING_ANSWERED),  # what grpcio 1.85 goes by instead; 60 s by default
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_HINTS = {
    "UNIMPLEMENTED": "; is that the address of a control plane (ADS, version 3)?",
    "UNAUTHENTICATED": "; the control plane wants to know who we are: see channel_creds in the bootstrap file",
    "PERMISSION_DENIED": "; the control plane does not know this node: see node in the bootstrap file",
}


class Stream:
    """One stream; made by `open_stream`, used on the loop that made it."""

    def __init__(self, channel: grpc.Channel, method: str, shown: str) -> None:
        self._shown = shown
        self._loop = asyncio.get_running_loop()
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self._incoming: deque[bytes | DiscoveryError] = deque()
        self._arrived = asyncio.Event()
        self._room = Semaphore(_UNREAD)
        speak: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        self._call = speak(iter(self._outgoing.get, None))
        Thread(target=self._listen, args=(channel,), name="svcmesh-xds", daemon=True).start()

    def write(self, message: bytes) -> None:
        """Send a message, as soon as the control plane takes it; on a stream that has ended it is lost."""
        self._outgoing.put(message)
        if self._outgoing.qsize() > _UNSENT:
            self.abort(DiscoveryError(f"xDS at {self._shown}: the control plane does not read what it is asked"))

    async def read(self) -> bytes:
        """Return the next message.

        Raises:
            DiscoveryError: the stream has ended.
        """
        while not self._incoming:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._incoming.popleft()
        if isinstance(message, DiscoveryError):
            raise message
        self._room.release()
        return message

    def abort(self, error: DiscoveryError) -> None:
        """End the stream; `read` raises ``error``, whatever else has arrived."""
        self._incoming.clear()
        self._take(error)
        self.close()

    def close(self) -> None:
        """End the stream; its threads end soon after. Harmless when repeated."""
        self._call.cancel()
        self._outgoing.put(None)
        self._room.release()

    def _take(self, message: bytes | DiscoveryError) -> None:
        self._incoming.append(message)
        self._arrived.set()

    def _listen(self, channel: grpc.Channel) -> None:
        """Hand over what comes, until nothing does; on a thread of its own."""
        import grpc

        try:
            for message in self._call:
                self._room.acquire()
                self._hand_over(message)
            ended = DiscoveryError(f"xDS at {self._shown}: the control plane ended the stream")
        except grpc.RpcError as error:
            ended = self._ended(error)
        self._outgoing.put(None)
        self._hand_over(ended)
        channel.close()

    def _hand_over(self, message: bytes | DiscoveryError) -> None:
        with suppress(RuntimeError):  # the mesh was closed meanwhile, and its loop with it
            self._loop.call_soon_threadsafe(self._take, message)

    def _ended(self, error: grpc.RpcError) -> DiscoveryError:
        import grpc

        if not isinstance(error, grpc.Call):
            return DiscoveryError(f"xDS at {self._shown}: {error}")
        status = error.code().name
        told = " ".join((error.details() or "").split())[:_SHOWN]
        hint = _HINTS.get(status, "")
        wait = SLOWLY if hint else None
        return DiscoveryError(f"xDS at {self._shown} answered {status}: {told}{hint}", retry_after=wait)


@asynccontextmanager
async def open_stream(server: Server, method: str) -> AsyncGenerator[Stream, None]:
    """Have a stream for the block; nothing is waited for, so that a server that is away shows at the first `read`.

    Raises:
        DiscoveryError: a file of TLS cannot be read.
    """
    import grpc

    options = [*_OPTIONS, ("grpc.max_receive_message_length", LARGEST)]
    if server.tls is None:
        channel = grpc.insecure_channel(server.target, options)
    else:
        channel = grpc.secure_channel(server.target, _credentials(server), options)
    stream = Stream(channel, method, server.target)
    try:
        yield stream
    finally:
        stream.close()


def _credentials(server: Server) -> grpc.ChannelCredentials:
    """Return what TLS needs, read anew for each stream: certificates rotate."""
    import grpc

    tls = server.tls
    files = (None, None, None) if tls is None else (tls.ca_file, tls.key, tls.certificate)
    contents: list[bytes | None] = []
    for file in files:
        try:
            contents.append(None if file is None else Path(file).read_bytes())
        except OSError as error:
            raise DiscoveryError(f"TLS for xDS at {server.target} cannot read {file}: {error.strerror}") from None
    return grpc.ssl_channel_credentials(*contents)
