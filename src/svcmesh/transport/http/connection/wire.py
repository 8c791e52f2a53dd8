"""The socket under a blocking HTTP connection: it goes to the endpoint, and it never outlives the attempt.

httpcore lets its network be replaced, and two things need that. The connection must be made to the endpoint while
everything above it (URL, Host, server name) stays logical; and httpx's timeouts hold for each single read, so that
a server which sends one byte a second would keep a call for ever.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from svcmesh.core.address import Address
from svcmesh.core.clock import LONGEST
from svcmesh.transport.http.connection.names import Target, names

SHORTEST = 0.001
"""Seconds: what is left of a deadline that has passed. Zero would switch a socket to non-blocking."""


class Limit:
    """The instant of the machine's clock by which reads and writes must end; None: only httpx's timeouts count."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: float | None = None

    def clamp(self, timeout: float | None) -> float | None:
        """Return ``timeout`` in seconds, shortened to what is left."""
        return clamp(timeout, self.until)


def clamp(timeout: float | None, until: float | None) -> float | None:
    """Return ``timeout`` in seconds, shortened to what is left until the instant ``until``."""
    if until is None:
        return timeout
    rest = min(max(SHORTEST, until - time.monotonic()), LONGEST)
    return rest if timeout is None or rest < timeout else timeout


class QuietSocket(socket.socket):
    """A socket that is closed without a warning when its owner is dropped.

    A mesh or a transport may be dropped unclosed. All of it is garbage then, in cycles, and Python finalizes sockets
    before what owns them, so that no finalizer of ours would come in time.
    """

    def __del__(self) -> None:
        """Close, as the finalizer that this one replaces does after it has warned."""
        if self.fileno() >= 0:  # else it is closed, or the system had none left, and it was never made
            self.close()


class QuietTlsSocket(ssl.SSLSocket):
    """The same with TLS."""

    def __del__(self) -> None:
        """Close, as the finalizer that this one replaces does after it has warned."""
        self.close()


class Wire(httpcore.NetworkBackend):
    """The network of one connection: whatever it is asked to connect to, it dials ``address``.

    Attributes:
        limit: by when reads and writes must end. stream: what it has been connected to; None: nothing yet.

    Threads: one at a time, except for `close`.
    """

    def __init__(self, address: Address, options: Iterable[httpcore.SOCKET_OPTION], source: str | None) -> None:
        self.limit = Limit()
        self._address = address
        self._options = tuple(options)
        self._source = source
        self.stream: WireStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the endpoint."""
        try:
            found = self._connect(timeout)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(error) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver would take
            raise httpcore.ConnectError(error) from error
        self.stream = WireStream(found, self.limit)
        return self.stream

    @property
    def connected(self) -> bool:
        """Whether it has been connected, TLS included or not."""
        return self.stream is not None

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.stream is not None:
            self.stream.close()

    def _connect(self, timeout: float | None) -> socket.socket:
        failure: OSError | None = None
        for family, target in literal(self._address) or names.wait(self._address, self.limit.clamp(timeout)):
            found = prepared(family, self._options, self._source)
            try:
                found.settimeout(self.limit.clamp(timeout))
                found.connect(target)
            except OSError as error:
                found.close()
                failure = failure or error
            except BaseException:
                found.close()
                raise
            else:
                return found
        raise failure or OSError(f"{self._address.host} has no address")


class WireStream(httpcore.NetworkStream):
    """A connected socket, with or without TLS."""

    def __init__(self, connected: socket.socket, limit: Limit) -> None:
        self._socket = connected
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, or nothing at the end."""
        try:
            self._socket.settimeout(self._limit.clamp(timeout))
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(error) from error
        except OSError as error:
            raise httpcore.ReadError(error) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        try:
            while buffer:
                self._socket.settimeout(self._limit.clamp(timeout))
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(error) from error
        except OSError as error:
            raise httpcore.WriteError(error) from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands; the stream itself goes on encrypted."""
        try:
            self._socket.settimeout(self._limit.clamp(timeout))
            encrypted = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
            encrypted.__class__ = QuietTlsSocket  # the context names the class, and the context is the user's
            self._socket = encrypted
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(error) from error
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate could have
            self.close()
            raise httpcore.ConnectError(error) from error
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """Answer what httpcore and users of ``network_stream`` ask for."""
        return extra_info(self._socket, self._socket if isinstance(self._socket, ssl.SSLSocket) else None, info)


def literal(address: Address) -> list[Target] | None:
    """Return the socket address that ``address`` is; None for a name, which the resolver has to be asked for."""
    if address.path is not None:
        return [(socket.AF_UNIX, address.path)]
    if address.is_ip:
        return [(socket.AF_INET6 if ":" in address.host else socket.AF_INET, (address.host, address.port))]
    return None


def prepared(family: int, options: Iterable[Any], source: str | None) -> QuietSocket:
    """Return a socket with its options set; ``options`` are the arguments of ``setsockopt``, in any of its forms."""
    found = QuietSocket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                found.bind((source, 0))
        for option in options:
            found.setsockopt(*option)
    except BaseException:
        found.close()
        raise
    return found


def extra_info(connected: socket.socket, encrypted: ssl.SSLObject | ssl.SSLSocket | None, info: str) -> Any:
    """Answer one question about a socket; None for one that is not known."""
    if info == "is_readable":
        return is_readable(connected)
    if info == "ssl_object":
        return encrypted
    if info == "socket":
        return connected
    if info == "client_addr":
        return connected.getsockname()
    return connected.getpeername() if info == "server_addr" else None


def is_readable(connected: socket.socket) -> bool:
    """Whether there is something to read, the end included. An idle connection that is readable has been closed."""
    descriptor = connected.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
