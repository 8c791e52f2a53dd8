"""Requests and answers between httpx and httpcore, and the few questions that are asked of them."""

from __future__ import annotations

from typing import Any

import httpcore
import httpx

from svcmesh.engine.member import NEVER

_BODILESS = frozenset({204, 304})

OriginKey = tuple[bytes, bytes, int | None, Any]
"""Scheme, host, port and server name: what a connection speaks for."""


def origin_key(request: httpx.Request) -> OriginKey:
    """Return what connections for this request are kept under."""
    url = request.url
    return url.raw_scheme, url.raw_host, url.port, request.extensions.get("sni_hostname")


def core_url(url: httpx.URL) -> httpcore.URL:
    """Return a URL as httpcore's: the logical one, whatever the connection dials."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def core_request(request: httpx.Request, headers: list[tuple[bytes, bytes]]) -> httpcore.Request:
    """Return a request as httpcore's, with the headers of this attempt."""
    return httpcore.Request(
        method=request.method,
        url=core_url(request.url),
        headers=headers,
        content=request.stream,
        extensions=request.extensions,
    )


def is_bodiless(request: httpx.Request, status: int) -> bool:
    """Whether an answer has no body, whatever its headers say. Source: RFC 9110, 6.4.1."""
    return status in _BODILESS or request.method == "HEAD"


def fits(request: httpx.Request, status: int, headers: list[tuple[bytes, bytes]], limit: int, length: int = -1) -> bool:
    """Whether the body of an answer is known to be at most ``limit`` bytes, so that it is read inside the attempt.

    A negative limit: never. ``length``: what it is already known to be; negative: look yourself.
    """
    if limit < 0 or length >= 0:
        return 0 <= length <= limit
    if is_bodiless(request, status):
        return True
    for name, value in headers:
        if name.lower() == b"content-length":
            return value.isdigit() and int(value) <= limit
    return False


def lookup(request: httpx.Request) -> float:
    """Return the seconds that a request waits for somebody to connect to; infinite where it says nothing of it."""
    found = timeout_of(request, "connect")
    return NEVER if found is None else found


def timeout_of(request: httpx.Request, phase: str) -> float | None:
    """Return the seconds that the client gives to ``phase``: connect, read, write or pool."""
    found: float | None = request.extensions.get("timeout", {}).get(phase)
    return found
