"""The gRPC side of svcmesh: the channels that a service hands out, and interceptors for channels and servers of others.

Importing it loads grpc, which ``import svcmesh`` does not.
"""

from __future__ import annotations

from svcmesh.transport.grpc_aio import MeshAioChannel
from svcmesh.transport.grpc_aio_interceptors import aio_client_interceptors
from svcmesh.transport.grpc_call import MeshCall
from svcmesh.transport.grpc_interceptors import client_interceptors
from svcmesh.transport.grpc_rotation import rotating_credentials
from svcmesh.transport.grpc_server import aio_server_interceptors, server_interceptors
from svcmesh.transport.grpc_sync import MeshChannel

__all__ = [
    "MeshAioChannel",
    "MeshCall",
    "MeshChannel",
    "aio_client_interceptors",
    "aio_server_interceptors",
    "client_interceptors",
    "rotating_credentials",
    "server_interceptors",
]
