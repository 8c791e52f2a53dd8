"""Bytes of a resource to what it says. Whatever the bytes are, that is a resource, or a reason why it is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svcmesh.discovery.xds.assignment import Assignment, assignment_of
from svcmesh.discovery.xds.clusters import Cluster, cluster_of
from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.discovery.xds.kinds import WRAPPED, Kind
from svcmesh.discovery.xds.routes import Listener, Routes, listener_of, routes_of

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as Packed

Resource = Listener | Routes | Cluster | Assignment


@dataclass(frozen=True, slots=True)
class Decoded:
    """A resource, or ``why`` it is none. ``name`` is "" where that cannot be known."""

    name: str
    resource: Resource | None
    why: str = ""


def decode(kind: Kind, packed: Packed) -> Decoded:
    """Return what a resource of ``kind`` says. Never raises."""
    from google.protobuf.message import DecodeError

    from svcmesh._proto import svcmesh_xds_pb2 as wire

    if packed.type_url == WRAPPED:
        try:
            packed = wire.Resource.FromString(packed.value).resource
        except DecodeError as error:
            return Decoded("", None, str(error))
    if packed.type_url != kind.value:
        return Decoded("", None, f"it is of type {packed.type_url[:160]!r}")
    name, found, why = _decoded(kind, packed.value)
    return Decoded(name, found, why) if name or why else Decoded("", None, "it has no name")


def _decoded(kind: Kind, content: bytes) -> tuple[str, Resource | None, str]:
    from google.protobuf.message import DecodeError

    from svcmesh._proto import svcmesh_xds_pb2 as wire

    name = ""
    found: Resource
    try:
        if kind is Kind.LISTENER:
            listener = wire.Listener.FromString(content)
            name = listener.name
            found = listener_of(listener)
        elif kind is Kind.ROUTES:
            routes = wire.RouteConfiguration.FromString(content)
            name = routes.name
            found = routes_of(routes)
        elif kind is Kind.CLUSTER:
            cluster = wire.Cluster.FromString(content)
            name = cluster.name
            found = cluster_of(cluster)
        else:
            assignment = wire.ClusterLoadAssignment.FromString(content)
            name = assignment.cluster_name
            found = assignment_of(assignment)
    except (Invalid, DecodeError) as error:
        return name, None, str(error)
    return name, found, ""
