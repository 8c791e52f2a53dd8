"""Calls whose response is a stream: they return at once, and run until the stream ends or is dropped."""

from __future__ import annotations

from typing import Any

import grpc

from svcmesh.transport.grpc.call import MeshCall
from svcmesh.transport.grpc.line import Line, Multicallable, frozen
from svcmesh.transport.grpc.request import Request


class UnaryStream(Multicallable, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A method with one request and streamed responses."""

    def __init__(self, line: Line) -> None:
        super().__init__(Line(line.view, line.dialer, line.method.carrying()))

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the call and return it."""
        stock = (frozen(metadata), credentials, compression)
        return MeshCall.begin(self._line, Request(request), stock, timeout, bool(wait_for_ready))


class StreamStream(Multicallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A method with streamed requests and streamed responses."""

    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the call and return it."""
        stock = (frozen(metadata), credentials, compression)
        requests = Request.streamed(request_iterator, self._line.method.serializer)
        return MeshCall.begin(self._line, requests, stock, timeout, bool(wait_for_ready))
