"""What an endpoint is asked by a health check: HTTP, gRPC or TCP. Field names are Envoy's where Envoy has them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from svcmesh.core import checks
from svcmesh.core.errors import ConfigError

Statuses = Sequence[int | range | tuple[int, int]]
"""Statuses of HTTP: single ones, and ranges without their ends, as `range` and Envoy have them."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VISIBLE = re.compile(r"[!-~]+")
_FIELD = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?|")


@dataclass(frozen=True, slots=True)
class HttpHealthCheck:
    """A request by HTTP/1.1 whose status is judged.

    Args:
        path: what is asked for, with its query if there is one; begins with ``/``.
        host: value of the header ``Host``, and the name that a certificate must have; None: the service's name.
        method: default ``GET``.
        request_headers_to_add: further headers, a mapping or pairs. They are shown nowhere.
        expected_statuses: statuses of an endpoint that is well, from 100 to 599: numbers, and ranges without their
            ends such as ``range(200, 300)``; default ``(200,)``.
        retriable_statuses: statuses that count like no answer, towards ``unhealthy_threshold``, where any other that
            is not expected makes the endpoint unhealthy at once; default none.
        tls: the context to ask by HTTPS with; None: plain text.

    Raises:
        ConfigError: a field of another kind, a path or header that no request can carry.
    """

    path: str
    host: str | None = field(default=None, kw_only=True)
    method: str = field(default="GET", kw_only=True)
    request_headers_to_add: Mapping[str, str] | Sequence[tuple[str, str]] = field(default=(), kw_only=True, repr=False)
    expected_statuses: Statuses = field(default=(200,), kw_only=True)
    retriable_statuses: Statuses = field(default=(), kw_only=True)
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every field, and make what was given comparable."""
        _fits("path", self.path, _VISIBLE, "a path of visible ASCII characters such as '/healthz'")
        if not self.path.startswith("/"):
            raise ConfigError(f"path of an HttpHealthCheck must begin with '/', not {self.path!r}")
        _fits("method", self.method, _TOKEN, "a method of HTTP such as 'GET'")
        if self.method == "CONNECT":
            raise ConfigError("method of an HttpHealthCheck must not be CONNECT, which asks for a tunnel")
        if self.host is not None:
            _fits("host", self.host, _VISIBLE, "a host name or None")
        object.__setattr__(self, "request_headers_to_add", _headers(self.request_headers_to_add))
        object.__setattr__(self, "expected_statuses", _statuses("expected_statuses", self.expected_statuses))
        object.__setattr__(self, "retriable_statuses", _statuses("retriable_statuses", self.retriable_statuses))
        if not self.expected_statuses:
            raise ConfigError("expected_statuses of an HttpHealthCheck are none, so that nothing could pass it")
        _check_tls(self.tls)

    def expects(self, status: int) -> bool:
        """Return whether an endpoint that answers with ``status`` is well."""
        return _within(status, self.expected_statuses)

    def retries(self, status: int) -> bool:
        """Return whether ``status`` counts like no answer."""
        return _within(status, self.retriable_statuses)


@dataclass(frozen=True, slots=True)
class GrpcHealthCheck:
    """``grpc.health.v1.Health/Check``; an endpoint is well when it answers ``SERVING``.

    Args:
        service_name: whose health is asked for; default empty: that of the server as a whole.
        authority: the ``:authority`` of the call, and the name that a certificate must have; None: the service's name.
        initial_metadata: further metadata, a mapping or pairs. They are shown nowhere.
        credentials: a `grpc.ChannelCredentials`; None: plain text.

    Raises:
        ConfigError: a field of another kind.
    """

    service_name: str = ""
    authority: str | None = field(default=None, kw_only=True)
    initial_metadata: Mapping[str, str] | Sequence[tuple[str, str]] = field(default=(), kw_only=True, repr=False)
    credentials: Any = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.service_name, str):
            raise ConfigError(f"service_name of a GrpcHealthCheck must be a string, not {self.service_name!r}")
        if self.authority is not None:
            _fits("authority", self.authority, _VISIBLE, "a host name or None")
        metadata = _pairs("initial_metadata", self.initial_metadata)
        object.__setattr__(self, "initial_metadata", tuple((name.lower(), value) for name, value in metadata))


@dataclass(frozen=True, slots=True)
class TcpHealthCheck:
    """A connection, on which something may be sent and something expected.

    Args:
        send: bytes sent once there is a connection; default none.
        receive: bytes that must come, or several of them that must come in this order with anything in between;
            default none: a connection that is accepted is enough.
        tls: the context to ask by TLS with; None: plain text. The certificate must have the service's name.

    Raises:
        ConfigError: a field of another kind.
    """

    send: bytes = b""
    receive: bytes | Sequence[bytes] = ()
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.send, bytes):
            raise ConfigError(f"send of a TcpHealthCheck must be bytes, not {self.send!r}")
        wanted: Any = (self.receive,) if isinstance(self.receive, bytes) else self.receive
        if isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise ConfigError(f"receive of a TcpHealthCheck must be bytes or several of them, not {wanted!r}")
        parts = tuple(part for part in wanted if part != b"")
        if not all(isinstance(part, bytes) for part in parts):
            raise ConfigError(f"receive of a TcpHealthCheck must be bytes or several of them, not {wanted!r}")
        object.__setattr__(self, "receive", parts)
        _check_tls(self.tls)


def _fits(name: str, value: object, pattern: re.Pattern[str], what: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ConfigError(f"{name} of a health check must be {what}, not {value!r}")


def _check_tls(tls: object) -> None:
    if not isinstance(tls, ssl.SSLContext | None):
        raise ConfigError(f"tls of a health check must be an ssl.SSLContext or None, not {tls!r}")


def _pairs(name: str, given: Any) -> tuple[tuple[str, str], ...]:
    """Return names and values; no message shows a value, which may be a password."""
    try:
        pairs = checks.pairs(name, given, "a mapping, or pairs, of strings")
    except ConfigError:
        raise ConfigError(f"{name} of a health check must be a mapping, or pairs, of strings") from None
    for key, value in pairs:
        if not isinstance(key, str) or not _TOKEN.fullmatch(key):
            raise ConfigError(f"{name} of a health check: {key!r} is no name of a header")
        if not isinstance(value, str) or not _FIELD.fullmatch(value):
            raise ConfigError(f"{name} of a health check: the value of {key} is no visible ASCII text")
    return pairs


def _headers(given: Any) -> tuple[tuple[str, str], ...]:
    pairs = _pairs("request_headers_to_add", given)
    for name, _ in pairs:
        if name.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
            raise ConfigError(f"request_headers_to_add of a health check: {name} is not yours to set (host=… is)")
    return pairs


def _statuses(name: str, given: Any) -> tuple[tuple[int, int], ...]:
    """Return ranges without their ends."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} of an HttpHealthCheck must be statuses such as (200, 204), not {given!r}")
    each = (given,) if isinstance(given, range) else tuple(given)
    return tuple(_range(name, one) for one in each)


def _range(name: str, given: Any) -> tuple[int, int]:
    start: Any
    end: Any
    if isinstance(given, range) and given.step == 1:
        start, end = given.start, given.stop
    elif isinstance(given, tuple) and len(given) == 2:
        start, end = given
    else:
        start, end = given, given + 1 if isinstance(given, int) else 0
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in (start, end)) or not 100 <= start < end <= 600:
        raise ConfigError(
            f"{name} of an HttpHealthCheck: {given!r} is neither a status from 100 to 599 nor a range of them"
        )
    return start, end


def _within(status: int, ranges: Any) -> bool:
    return any(start <= status < end for start, end in ranges)
