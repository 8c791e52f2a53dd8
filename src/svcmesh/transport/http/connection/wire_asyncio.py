"""The socket under an asyncio HTTP connection: as `wire`, and closed the moment a task is cancelled.

The end of an attempt is such a cancellation (see `engine.reaper`), and sockets give up just before it by themselves.

A cancelled task may not be able to await anything any more, and what an await should have released is lost: this is
how httpx 0.28 loses its pool (encode/httpcore#1093). So the sockets here are plain ones, watched by the loop only
while somebody waits for them, and closing is a call that never awaits. It also may come from any thread, and after
the loop has ended.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpcore

from svcmesh.core.address import Address
from svcmesh.transport.http.connection.alarm import Alarm
from svcmesh.transport.http.connection.names import names
from svcmesh.transport.http.connection.readers import Watcher, readers, writers
from svcmesh.transport.http.connection.wire import Limit, extra_info, literal, prepared

T = TypeVar("T")

CHUNK = 65536


class AsyncWire(httpcore.AsyncNetworkBackend):
    """The network of one connection: whatever it is asked to connect to, it dials ``address``.

    Attributes:
        limit: by when reads and writes must end. stream: what it has been connected to; None: nothing yet.
    """

    def __init__(self, address: Address, options: Iterable[httpcore.SOCKET_OPTION], source: str | None) -> None:
        self.limit = Limit()
        self._address = address
        self._options = tuple(options)
        self._source = source
        self.stream: AsyncWireStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the endpoint."""
        try:
            async with asyncio.timeout(self.limit.clamp(timeout)):
                found = await self._connect()
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(names.late(self._address)) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver would take
            raise httpcore.ConnectError(error) from error
        self.stream = AsyncWireStream(found, self.limit)
        return self.stream

    @property
    def connected(self) -> bool:
        """Whether it has been connected, TLS included or not."""
        return self.stream is not None

    def close(self) -> None:
        """Close the socket, if there is one. Threads: any, while nobody reads or writes."""
        if self.stream is not None:
            self.stream.close()

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for family, target in literal(self._address) or await names.wait_async(self._address):
            found = prepared(family, self._options, self._source)
            try:
                found.setblocking(False)
                await loop.sock_connect(found, target)
            except OSError as error:
                found.close()
                failure = failure or error
            except BaseException:
                found.close()
                raise
            else:
                return found
        raise failure or OSError(f"{self._address.host} has no address")


class AsyncWireStream(httpcore.AsyncNetworkStream):
    """A connected non-blocking socket, with or without TLS. One task may read while another one writes."""

    def __init__(self, connected: socket.socket, limit: Limit) -> None:
        self._socket = connected
        self._limit = limit
        self._alarm = Alarm()
        self._asked = False  # something was sent, and nothing was read since
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the last wait for something to read
        self._readers: Watcher
        self.tls: Tls | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, or nothing at the end."""
        try:
            _check(timeout)
            if self.tls is None:
                return await self._receive(max_bytes, timeout)
            return await self.tls.perform(lambda tls: tls.read(max_bytes), self, timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(error) from error
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # whether it said goodbye or not: HTTP knows itself where a message ends
        except OSError as error:
            raise httpcore.ReadError(error) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        if not buffer:
            return
        try:
            _check(timeout)
            if self.tls is None:
                await self.send(buffer, timeout)
            else:
                await self.tls.perform(lambda tls: tls.write(buffer), self, timeout)  # memory: all or nothing
        except TimeoutError as error:
            raise httpcore.WriteTimeout(error) from error
        except OSError as error:
            raise httpcore.WriteError(error) from error

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands; the stream itself goes on encrypted."""
        try:
            tls = Tls(ssl_context, server_hostname)
            async with asyncio.timeout(self._limit.clamp(timeout)):
                await tls.perform(lambda shaking: shaking.do_handshake(), self, None)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(error) from error
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate could have
            self.close()
            raise httpcore.ConnectError(error) from error
        except BaseException:
            self.close()
            raise
        self.tls = tls
        return self

    async def aclose(self) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket, without waiting for anything."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Answer what httpcore and users of ``network_stream`` ask for."""
        if info == "is_readable" and self.tls is not None and self.tls.unread:
            return True
        return extra_info(self._socket, None if self.tls is None else self.tls.object, info)

    async def receive(self, timeout: float | None) -> bytes:
        """Return raw bytes, or nothing at the end."""
        return await self._receive(CHUNK, timeout)

    async def _receive(self, max_bytes: int, timeout: float | None) -> bytes:
        if self._asked:  # an answer takes longer than it took to come here: a look for it would be in vain
            self._asked = False
            await self._readable(timeout)
        while True:
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                await self._readable(timeout)

    async def send(self, buffer: bytes, timeout: float | None) -> None:
        """Send raw bytes, all of them."""
        self._asked = True
        left = memoryview(buffer)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop, writers(loop), timeout)

    async def _readable(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._readers = readers(loop)
            self._readers.join(self._socket.fileno())
            self._loop = loop
        await self._ready(loop, self._readers, timeout)

    async def _ready(self, loop: asyncio.AbstractEventLoop, watcher: Watcher, timeout: float | None) -> None:
        """Wait until the socket seems ready; whatever ends the wait, nobody waits any more."""
        descriptor = self._socket.fileno()
        ready: asyncio.Future[bool] = loop.create_future()
        watcher.watch(descriptor, ready)
        seconds = self._limit.clamp(timeout)
        if seconds is not None:
            self._alarm.watch(ready, loop, seconds)
        try:
            in_time = await ready
        finally:
            watcher.unwatch(descriptor, ready)
            self._alarm.forget(ready)
        if not in_time:
            raise TimeoutError("timed out")


class Tls:
    """TLS in memory: what it wants to send and to receive goes through the stream it is given."""

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    @property
    def unread(self) -> int:
        """Encrypted bytes that have arrived and not been looked at."""
        return self._incoming.pending

    def feed(self, received: bytes) -> None:
        """Take encrypted bytes; nothing at all is their end."""
        self._incoming.write(received) if received else self._incoming.write_eof()

    def drain(self) -> bytes:
        """Return what is to be sent."""
        return self._outgoing.read()

    async def perform(self, step: Callable[[ssl.SSLObject], T], stream: AsyncWireStream, timeout: float | None) -> T:
        """Repeat ``step`` until it has what it needs."""
        while True:
            try:
                done = step(self.object)
            except ssl.SSLWantReadError:
                await self._flush(stream, timeout)
                self.feed(await stream.receive(timeout))
            else:
                await self._flush(stream, timeout)
                return done

    async def _flush(self, stream: AsyncWireStream, timeout: float | None) -> None:
        if self._outgoing.pending:
            await stream.send(self.drain(), timeout)


def _check(timeout: float | None) -> None:
    """Refuse what leaves no time at all, though the socket may be ready: on asyncio httpcore does, with anyio."""
    if timeout is not None and timeout <= 0:
        raise TimeoutError("no time was given")
