"""httpx's transport for one connection, closed also where its TLS handshake is cancelled.

httpcore closes a socket whose handshake fails, and forgets one whose handshake is cancelled: a mesh that is closed just
then would leave it to the collector. So the connection's streams are made by a backend that closes such a one.

And it calls a server that hangs up in the handshake one that cannot be connected to. Whoever takes no more connections
does just that, so here it is a connection that was made, and ended.

Imported with the first request, because it loads httpx.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpcore
import httpx

_KEPT = 30.0
"""Seconds that an idle connection is kept."""


class OneConnection(httpx.AsyncHTTPTransport):
    """A transport with room for one connection: by ``context`` where a URL asks for TLS, to ``socket`` if one is given.

    Threads: the loop of its first request.
    """

    def __init__(self, context: ssl.SSLContext | None, socket: str | None) -> None:  # no super(): its pool is this one
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=_KEPT,
            uds=socket,
            network_backend=_Backend(),
        )


class _Backend(httpcore.AsyncNetworkBackend):
    """Makes streams that no cancelled handshake leaves open."""

    def __init__(self) -> None:
        self._backend: Any = httpcore.AnyIOBackend()

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._backend.connect_tcp(*args, **kwargs))

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._backend.connect_unix_socket(*args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A stream that is not encrypted, or not yet."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException as error:
            await self._stream.aclose()
            if isinstance(error, httpcore.ConnectError) and not isinstance(error.__cause__, ssl.SSLError):
                raise httpcore.ReadError("the server hung up in the TLS handshake") from None
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
