"""The HTTP side of svcmesh: the transports that a service and a mesh hand out, their refusals, and server middleware.

Importing it loads httpx, which ``import svcmesh`` does not.
"""

from __future__ import annotations

from svcmesh.transport.http.async_transport import AsyncMeshTransport
from svcmesh.transport.http.errors import (
    HTTPCircuitOpen,
    HTTPConnectDeadlineExceeded,
    HTTPDeadlineExceeded,
    HTTPLimitExceeded,
    HTTPNoEndpoints,
    HTTPPoolDeadlineExceeded,
    HTTPWriteDeadlineExceeded,
)
from svcmesh.transport.http.server import ASGIMiddleware, WSGIMiddleware
from svcmesh.transport.http.tls import rotating_context
from svcmesh.transport.http.transport import MeshTransport

__all__ = [
    "ASGIMiddleware",
    "AsyncMeshTransport",
    "HTTPCircuitOpen",
    "HTTPConnectDeadlineExceeded",
    "HTTPDeadlineExceeded",
    "HTTPLimitExceeded",
    "HTTPNoEndpoints",
    "HTTPPoolDeadlineExceeded",
    "HTTPWriteDeadlineExceeded",
    "MeshTransport",
    "WSGIMiddleware",
    "rotating_context",
]
