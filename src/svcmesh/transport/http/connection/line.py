"""One connection of a pool, and how it is made: what httpx's arguments ask for, applied to an endpoint's address."""

from __future__ import annotations

import importlib.util
import ssl
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpcore
import httpx

from svcmesh.core.address import parse_address
from svcmesh.core.errors import ConfigError
from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.lane import Lane, lane_of
from svcmesh.transport.http.connection.wire import Wire
from svcmesh.transport.http.connection.wire_asyncio import AsyncWire

H = TypeVar("H", bound=httpcore.ConnectionInterface | httpcore.AsyncConnectionInterface)

DEFAULT_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=5.0)
"""For one service. httpx's 100 would let one endpoint that hangs take every connection away from the others."""

_LIMITS = ("max_connections", "max_keepalive_connections", "keepalive_expiry")


class Line(Generic[H]):
    """A connection to an endpoint, made at its first request.

    Attributes:
        http: httpcore's connection. wire: the socket under it.
        used: it has carried a request before, so that the server may have closed it meanwhile.
        lane: the short way over it for plain requests; None before the first one, and for HTTP/2.
    """

    __slots__ = ("http", "lane", "used", "wire")

    def __init__(self, http: H, wire: Wire | AsyncWire) -> None:
        self.http: H = http
        self.wire = wire
        self.used = False
        self.lane: Lane | None = None

    def idle(self) -> bool:
        """Whether it has come to the end of a request in good order, and may carry another one."""
        if self.lane is None:
            self.lane = lane_of(self.http, self.wire.stream)
        return (self.lane is None or self.lane.idle) and self.http.is_idle()

    def usable(self) -> bool:
        """Whether another request may be sent on it: a server that has hung up can be read from."""
        if self.lane is not None:
            return not self.lane.stream.get_extra_info("is_readable")  # that it is too old the pool sees itself
        return not (self.http.is_closed() or self.http.has_expired())

    def close(self) -> None:
        """Close the socket. Threads: any, while nobody reads or writes."""
        self.wire.close()


@dataclass(frozen=True, kw_only=True)
class Dialing:
    """The arguments of ``httpx.HTTPTransport``, as far as they make sense where a mesh decides whom to dial.

    Args:
        verify: as httpx's. cert: as httpx's. trust_env: whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count.
        http1: offer HTTP/1.1. http2: offer HTTP/2; needs the extra ``svcmesh[http2]``.
        limits: ``max_connections`` is for all endpoints of a service together, ``max_keepalive_connections`` for each
            of them. They count apart for each scheme, port and server name, and for each event loop.
        local_address: IP address that connections come from.
        socket_options: as httpx's.

    Raises:
        ConfigError: neither protocol is on, or limits of another kind.
        ImportError: HTTP/2 without the package ``h2``.
        OSError: a certificate file that cannot be read.
    """

    verify: ssl.SSLContext | str | bool = True
    cert: Any = None
    trust_env: bool = True
    http1: bool = True
    http2: bool = False
    limits: httpx.Limits = field(default_factory=lambda: DEFAULT_LIMITS)
    local_address: str | None = None
    socket_options: tuple[httpcore.SOCKET_OPTION, ...] = ()
    _context: list[ssl.SSLContext] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fail now where httpx fails when a client is built."""
        object.__setattr__(self, "socket_options", tuple(self.socket_options or ()))
        if not all(hasattr(self.limits, name) for name in _LIMITS):  # httpx2 has Limits of its own
            raise ConfigError(f"limits must be an httpx.Limits, not {self.limits!r}")
        if not (self.http1 or self.http2):
            raise ConfigError("http1 and http2 are both off: leave one of them on")
        if self.http2:
            _need_h2()
        if self.verify is not True or self.cert is not None:
            self.ssl_context()

    def ssl_context(self) -> ssl.SSLContext:
        """Return the one context of all connections. The default one takes 22 ms and 0.8 MiB: made when needed."""
        if not self._context:
            made = httpx.create_ssl_context(verify=self.verify, cert=self.cert, trust_env=self.trust_env)
            self._context.append(made)
        return self._context[0]

    def line(self, origin: httpcore.Origin, member: Member) -> Line[httpcore.HTTPConnection]:
        """Return a blocking connection to ``member`` that speaks for ``origin``."""
        wire = self.wire(member)
        return Line(httpcore.HTTPConnection(network_backend=wire, **self._arguments(origin)), wire)

    def async_line(self, origin: httpcore.Origin, member: Member) -> Line[httpcore.AsyncHTTPConnection]:
        """Return a connection for asyncio to ``member`` that speaks for ``origin``."""
        wire = self.async_wire(member)
        return Line(httpcore.AsyncHTTPConnection(network_backend=wire, **self._arguments(origin)), wire)

    def bounds(self) -> dict[str, Any]:
        """Return the arguments of a pool."""
        limits = self.limits
        return {
            "limit": limits.max_connections,
            "keep": limits.max_keepalive_connections,
            "expiry": limits.keepalive_expiry,
        }

    def wire(self, member: Member) -> Wire:
        """Return a network that leads to ``member``."""
        return Wire(parse_address(member.endpoint.address), self.socket_options, self.local_address)

    def async_wire(self, member: Member) -> AsyncWire:
        """Return a network for asyncio that leads to ``member``."""
        return AsyncWire(parse_address(member.endpoint.address), self.socket_options, self.local_address)

    def shares(self, url: httpx.URL) -> bool:
        """Whether the servers of ``url`` may speak HTTP/2, so that requests may share connections."""
        return self.http2 and (url.scheme in {"https", "wss"} or not self.http1)

    def connect_arguments(self, origin: httpcore.Origin, timeout: float | None) -> dict[str, Any]:
        """Return what httpcore tells a network backend to connect to, and a tracer."""
        return {
            "host": origin.host.decode("ascii"),
            "port": origin.port,
            "local_address": self.local_address,
            "timeout": timeout,
            "socket_options": self.socket_options or None,
        }

    def tls_arguments(self, origin: httpcore.Origin, request: httpx.Request, timeout: float | None) -> dict[str, Any]:
        """Return the same for TLS, the protocols to choose from included."""
        context = self.ssl_context()
        context.set_alpn_protocols(["http/1.1", "h2"] if self.http1 else ["h2"])
        name = request.extensions.get("sni_hostname") or origin.host.decode("ascii")
        return {"ssl_context": context, "server_hostname": name, "timeout": timeout}

    def chose_two(self, stream: httpcore.NetworkStream | httpcore.AsyncNetworkStream) -> bool:
        """Whether a connected server speaks HTTP/2: it has chosen it, or there is nothing else to choose."""
        encrypted = stream.get_extra_info("ssl_object")
        return not self.http1 or (encrypted is not None and encrypted.selected_alpn_protocol() == "h2")

    def _arguments(self, origin: httpcore.Origin) -> dict[str, Any]:
        return {
            "origin": origin,
            "ssl_context": self.ssl_context() if origin.scheme in {b"https", b"wss"} else None,
            "keepalive_expiry": self.limits.keepalive_expiry,
            "http1": self.http1,
            "http2": self.http2,
        }


def _need_h2() -> None:
    if importlib.util.find_spec("h2") is None:
        raise ImportError("http2=True needs the package h2: pip install 'svcmesh[http2]'")
