"""The gRPC side of svcmesh: the classes of the channels and calls that a service hands out.

Importing it loads grpc, which ``import svcmesh`` does not.
"""

from __future__ import annotations

from svcmesh.transport.grpc_aio import MeshAioChannel
from svcmesh.transport.grpc_call import MeshCall
from svcmesh.transport.grpc_sync import MeshChannel

__all__ = ["MeshAioChannel", "MeshCall", "MeshChannel"]
