"""The gRPC side of svcmesh: a service's channels, interceptors for channels and servers of others, and their stopping.

Importing it loads grpc, which ``import svcmesh`` does not.
"""

from __future__ import annotations

from svcmesh.transport.grpc.aio.channel import MeshAioChannel
from svcmesh.transport.grpc.aio.interceptors import aio_client_interceptors
from svcmesh.transport.grpc.call import MeshCall
from svcmesh.transport.grpc.channel import MeshChannel
from svcmesh.transport.grpc.interceptors import client_interceptors
from svcmesh.transport.grpc.rotation import rotating_credentials
from svcmesh.transport.grpc.server import aio_server_interceptors, server_interceptors
from svcmesh.transport.grpc.shutdown import aio_serve_until_signal, aio_shutdown, serve_until_signal, shutdown

__all__ = [
    "MeshAioChannel",
    "MeshCall",
    "MeshChannel",
    "aio_client_interceptors",
    "aio_serve_until_signal",
    "aio_server_interceptors",
    "aio_shutdown",
    "client_interceptors",
    "rotating_credentials",
    "serve_until_signal",
    "server_interceptors",
    "shutdown",
]
