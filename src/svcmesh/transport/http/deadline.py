"""The caller's remaining time as an HTTP header, so that a server does not go on working for nobody.

HTTP has no header for it. Envoy's is the one that exists in the wild: proxies write it, and servers of other makers
read it. Beside it the header of gRPC is read, which gateways leave in the requests that they turn into HTTP.
Source: Envoy, router filter, ``x-envoy-expected-rq-timeout-ms``; gRPC over HTTP/2, ``Timeout``.
"""

from __future__ import annotations

HEADER = "x-envoy-expected-rq-timeout-ms"
"""Whole milliseconds that are left. It is what our transports send."""

GRPC_HEADER = "grpc-timeout"
"""At most eight digits and a unit."""

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_DIGITS = 10  # 115 days in milliseconds: beyond is no deadline but a mistake


def written(seconds: float) -> bytes:
    """Return what `HEADER` says of ``seconds``; at least 1, since Envoy's 0 would mean no limit."""
    return b"%d" % max(1, int(seconds * 1000))


def remaining_of(milliseconds: str | None, grpc_timeout: str | None) -> float | None:
    """Return the seconds that a request has by its two headers, the smallest ones; None where none can be read.

    What came more than once is between commas (RFC 9110, 5.3). What cannot be read is ignored: a request
    is not to be refused for a header that a proxy has mangled.
    """
    found = [_of_milliseconds(part.strip()) for part in (milliseconds or "").split(",")]
    found += [_of_grpc(part.strip()) for part in (grpc_timeout or "").split(",")]
    return min((seconds for seconds in found if seconds is not None), default=None)


def _of_milliseconds(text: str) -> float | None:
    found = _number(text, _MOST_DIGITS)
    return None if not found else found / 1000


def _of_grpc(text: str) -> float | None:
    found = _number(text[:-1], 8)
    return None if found is None or text[-1] not in _UNITS else found * _UNITS[text[-1]]


def _number(text: str, most: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= most else None
