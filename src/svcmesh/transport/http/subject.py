"""An HTTP request as rules for its key see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

JOINED = frozenset(
    """
    accept accept-encoding access-control-request-headers access-control-request-method authorization cache-control
    content-encoding content-type expect grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match
    if-range if-unmodified-since origin pragma referer user-agent via x-client-trace-id x-envoy-attempt-count
    x-envoy-decorator-operation x-envoy-downstream-service-cluster x-envoy-external-address x-envoy-original-path
    x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-request-id
    """.split()  # noqa: SIM905 - a list would take a line for each
)
"""Headers that Envoy keeps as one text, of several values joined by commas: found by asking Envoy 1.40 for their hash.

Those of which it makes something else, such as ``connection``, are not among them.
"""


class HttpSubject:
    """One request of httpx's."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request

    def headers(self, name: str) -> list[bytes]:
        """Return the values of a header, one for each time that it is there, or what HTTP/2 has of the kind."""
        if name.startswith(":"):
            return self._pseudo(name)
        wanted = name.encode()
        values = [value for key, value in self._request.headers.raw if key.lower() == wanted]
        return [b",".join(values)] if len(values) > 1 and name in JOINED else values

    def _pseudo(self, name: str) -> list[bytes]:
        if name == ":authority":
            return self.headers("host")
        url = self._request.url
        found = {":method": self._request.method.encode(), ":path": url.raw_path, ":scheme": url.raw_scheme}.get(name)
        return [] if found is None else [found]

    def query(self, name: str) -> bytes | None:
        """Return the first value of a parameter, undecoded."""
        wanted = name.encode()
        for part in self._request.url.query.split(b"&"):
            key, _, value = part.partition(b"=")
            if key == wanted:
                return value
        return None

    def computed(self, fn: Callable[..., Any]) -> Any:
        """Return what ``fn`` says of the request."""
        return fn(self._request)
