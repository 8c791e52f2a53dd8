"""A gRPC call as rules for its key see it: metadata, the path, and the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svcmesh.engine.view import View
from svcmesh.transport.grpc.method import Method
from svcmesh.transport.grpc.request import Request


class GrpcSubject:
    """The method, the metadata and the message of one call."""

    def __init__(self, method: Method, metadata: Any, request: Request) -> None:
        self._method = method
        self._metadata = metadata or ()
        self._request = request

    def headers(self, name: str) -> list[bytes]:
        """Return one value, of several joined by commas; binary ones are not read (gRFC A42)."""
        if name.endswith("-bin"):
            return []
        if name == ":path":
            return [self._method.name.encode()]
        values = [_octets(value) for key, value in self._metadata if key.lower() == name]
        return [b",".join(values)] if values else []

    def query(self, name: str) -> None:
        """There are no parameters."""

    def computed(self, fn: Callable[..., Any]) -> Any:
        """Return what ``fn`` says of the message; None for a stream of them."""
        message = self._request.message
        return None if message is None else fn(message)


def key_of(view: View, method: Method, metadata: Any, request: Request) -> int | None:
    """Return the key of a call; None where the policy wants none, or finds nothing to make it of."""
    return view.key_of(GrpcSubject(method, metadata, request)) if view.keyed else None


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
