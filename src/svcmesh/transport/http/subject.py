"""An HTTP request as rules for its key see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx


class HttpSubject:
    """One request of httpx's."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request

    def headers(self, name: str) -> list[bytes]:
        """Return the values of a header, one for each time that it is there."""
        wanted = name.encode()
        return [value for key, value in self._request.headers.raw if key.lower() == wanted]

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
