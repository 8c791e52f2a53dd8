"""Connections to registries that speak HTTP: kept while somebody asks, one for each request that is under way.

httpx carries them, imported with the first request. They are shared by all who ask at the same time and closed when
nobody does: a watch holds one for as long as it lives, and a cancelled request closes its own at once.

Each has a transport of its own. A pool of httpcore looks at all of its connections for each of them with every
request, which at 150 of them takes longer than everything else together.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.tls import Tls, tls_context

if TYPE_CHECKING:
    import httpx

SLOWEST = 60.0
"""Seconds that a body may take once it has begun: one that drips would else never be late."""

_CONNECT = 5.0
_WRITE = 10.0


class NoAnswer(DiscoveryError):
    """The connection failed, broke off, or nothing came in time."""


class Silence(NoAnswer):
    """Nothing came in time, and nothing else is wrong with the connection."""


class HungUp(NoAnswer):
    """A connection was made, and ended before there was an answer on it."""


class Unfit(DiscoveryError):
    """What was to be asked, or what was answered, is nothing that can be used; the text goes on after who was asked."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked: the base URL of its interface, and the unix socket that leads to it, if one does."""

    url: str
    socket: str | None = None

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"unix:{self.socket}" if self.socket is not None else self.url


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        target: path and query, quoted. patience: seconds that may pass without a byte.
    """

    server: Server
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)  # with our secrets in them
    patience: float
    content: bytes | None = field(default=None, repr=False)


class Reply(Protocol):
    """What of httpx's response is used: the head of an answer, and its body as it comes."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers."""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body in parts."""


class Lines:
    """Connections to the servers of one registry, called ``whose`` in errors.

    Use it inside ``async with lines.open()``, which keeps connections for the block. Threads: any number of loops,
    each with connections of its own.
    """

    def __init__(self, tls: Tls, whose: str) -> None:
        self._tls = tls
        self._whose = whose
        self._opened: dict[asyncio.AbstractEventLoop, _Kept] = {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """Keep connections until the end of the block."""
        loop = asyncio.get_running_loop()
        kept = self._opened.get(loop)
        if kept is None:
            for gone in [other for other in self._opened if other.is_closed()]:
                del self._opened[gone]  # of a process that forked, or of a loop that ended without us
            kept = self._opened[loop] = _Kept(self._tls, self._whose)
        kept.users += 1
        try:
            yield
        finally:
            kept.users -= 1
            if not kept.users:
                self._opened.pop(loop, None)
                await kept.close()

    @asynccontextmanager
    async def exchange(self, ask: Ask) -> AsyncGenerator[Reply, None]:
        """Make one request, and read its answer inside the block.

        Raises:
            NoAnswer: also where reading fails. Unfit: it cannot be asked, or the answer is packed.
            DiscoveryError: files of TLS are missing.
        """
        import httpx

        kept = self._opened[asyncio.get_running_loop()]
        try:
            async with kept.exchange(ask) as response:
                _check_plain(response.headers)
                yield response
        except (httpx.TransportError, httpx.StreamError) as error:
            if isinstance(error, httpx.ConnectError):
                kept.forget_context()  # files of TLS may have been replaced
            kind = Silence if isinstance(error, httpx.ReadTimeout) else NoAnswer
            raise kind(_text(error, ask.patience, self._whose)) from None
        except ssl.SSLError as error:  # of a server that refuses our certificate, or the lack of one, with TLS 1.3:
            kept.forget_context()  # it says so when the handshake is over, and httpcore knows of no such end
            raise NoAnswer(f"TLS failed ({error}): does {self._whose} want another certificate?") from None
        except httpx.InvalidURL as error:
            raise Unfit(f"cannot be asked: {error}") from None


class _Kept:
    """The connections of one loop."""

    def __init__(self, tls: Tls, whose: str) -> None:
        self.users = 0
        self._tls = tls
        self._whose = whose
        self._idle: dict[Server, list[httpx.AsyncHTTPTransport]] = {}
        self._context: ssl.SSLContext | None = None

    def forget_context(self) -> None:
        """Read the files of TLS again for the next connection."""
        self._context = None

    async def close(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, {}
        for transports in idle.values():
            for transport in transports:
                await transport.aclose()

    @asynccontextmanager
    async def exchange(self, ask: Ask) -> AsyncGenerator[httpx.Response, None]:
        """Send a request on an idle connection or a new one, which is idle afterwards unless something broke."""
        request = self._request(ask)
        idle = self._idle.setdefault(ask.server, [])
        is_new = not idle
        transport = self._transport(ask.server) if is_new else idle.pop()
        whole = False
        try:
            response = await self._answered(transport, request, is_new=is_new)
            try:
                yield response
            finally:
                await response.aclose()
            whole = True
        finally:
            if whole and self.users:
                idle.append(transport)
            else:
                await transport.aclose()

    async def _answered(
        self, transport: httpx.AsyncHTTPTransport, request: httpx.Request, *, is_new: bool
    ) -> httpx.Response:
        import httpx

        try:
            return await transport.handle_async_request(request)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            if not is_new:
                raise
            self.forget_context()  # so does who refuses a certificate without a word
            raise HungUp(_text(error, 0.0, self._whose)) from None

    def _request(self, ask: Ask) -> httpx.Request:
        import httpx

        timeout = {"connect": _CONNECT, "read": ask.patience, "write": _WRITE, "pool": _WRITE}
        extensions: dict[str, Any] = {"timeout": timeout}
        if self._tls.server_name is not None:
            extensions["sni_hostname"] = self._tls.server_name
        return httpx.Request(
            ask.method, ask.server.url + ask.target, headers=ask.headers, content=ask.content, extensions=extensions
        )

    def _transport(self, server: Server) -> httpx.AsyncHTTPTransport:
        from svcmesh.discovery.handshake import OneConnection

        context = None
        if server.url.startswith("https:"):
            self._context = context = self._context or tls_context(self._tls, self._whose)
        return OneConnection(context, server.socket)


def _check_plain(headers: Mapping[str, str]) -> None:
    """Refuse an answer that is packed, which nobody asked for: a few bytes of it may be any number of bytes.

    Raises:
        Unfit: it is.
    """
    packed = headers.get("content-encoding", "identity")
    if packed.strip().lower() not in {"", "identity"}:
        raise Unfit(f"answered packed ({packed[:80]!r}), which was not asked for: is a proxy in between?")


async def body_of(response: Reply, largest: int) -> bytes:
    """Return the body of an answer.

    Raises:
        Unfit: it has more than ``largest`` bytes. NoAnswer: it does not end.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in response.aiter_bytes():
                size += len(part)
                if size > largest:
                    raise Unfit(f"answered with more than {largest} bytes")
                parts.append(part)
    except TimeoutError:
        raise NoAnswer(f"the answer did not end within {SLOWEST:g} s") from None
    return b"".join(parts)


def headers_of(response: Reply) -> dict[str, str]:
    """Return the headers of an answer by lower-case name."""
    return {name.lower(): value for name, value in response.headers.items()}


def check_json(headers: Mapping[str, str], body: bytes | None = None) -> None:
    """Refuse an answer that the registry cannot have given: a proxy's page says 200, too. An empty body is no page.

    Raises:
        Unfit: it is of another kind than JSON.
    """
    kind = headers.get("content-type", "application/json")
    if body != b"" and "json" not in kind:
        raise Unfit(f"answered with {kind[:80]!r} instead of JSON: is a proxy in between?")


def without(secrets: Mapping[str, str], body: bytes) -> bytes:
    """Return what may be shown of an answer: something in between may have sent our own headers back.

    Args:
        secrets: headers whose values nobody may see. body: the answer.
    """
    body = body[:65536]
    for secret in secrets.values():
        for text in (secret, secret.partition(" ")[2] or secret):  # with the word before it, and without
            body = body.replace(text.encode(), "…".encode())
    return body


def seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds that a header ``Retry-After`` says; None for none, or a date."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(retry_after[:6])


def _text(error: Exception, patience: float, whose: str) -> str:
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer for {patience:g} s"
    if isinstance(error, httpx.ConnectError):
        return f"cannot connect ({error}): is {whose} running there?"
    return str(error) or type(error).__name__
