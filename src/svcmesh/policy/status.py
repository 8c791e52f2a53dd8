"""The status words of gRPC and of HTTP, and how either says what the other means.

The two tables are not inverses of each other: one is what a gRPC error looks like to an HTTP caller (Google's API
mapping, which Envoy uses), the other what an HTTP answer means to a gRPC caller (the gRPC protocol).
"""

from __future__ import annotations

from typing import Any

from svcmesh.core.errors import ConfigError

GRPC_TO_HTTP = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP status of a gRPC code, in the order of the codes' numbers. Source: google/rpc/code.proto."""

_HTTP_TO_GRPC = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    429: "UNAVAILABLE",
    431: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


def is_plain(status: int) -> bool:
    """Whether an HTTP answer is one that no policy looks at, unless it names the status (`Retry(on={404})`)."""
    return status < 500 and status != 429


def http_to_grpc(status: int) -> str:
    """Return the gRPC code that an HTTP answer without a grpc-status means. Source: gRPC, http-grpc-status-mapping."""
    return _HTTP_TO_GRPC.get(status, "UNKNOWN")


def code_name(field: str, code: object) -> str:
    """Return the name of a gRPC error code given as its upper-case name or as something like ``grpc.StatusCode``.

    Raises:
        ConfigError: not the name of an error (``OK`` is none).
    """
    name: Any = code if isinstance(code, str) else getattr(code, "name", None)
    if not isinstance(name, str) or name not in GRPC_TO_HTTP or name == "OK":
        raise ConfigError(f"{field} must be a gRPC error code such as 'UNAVAILABLE' (upper case), not {code!r}")
    return name


def http_status(field: str, status: object, low: int = 100) -> int:
    """Return ``status`` as a plain int from ``low`` to 599.

    Raises:
        ConfigError: otherwise.
    """
    if isinstance(status, bool) or not isinstance(status, int) or not low <= status <= 599:
        raise ConfigError(f"{field} must be an HTTP status from {low} to 599, not {status!r}")
    return int(status)
