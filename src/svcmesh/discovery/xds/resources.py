"""Bytes of a resource to what it says. Whatever the bytes are, that is a resource, or a reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svcmesh.discovery.xds.assignment import Assignment, Listed, assignment_of, unread
from svcmesh.discovery.xds.candidate import Candidates
from svcmesh.discovery.xds.clusters import Cluster, cluster_of
from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.discovery.xds.kinds import WRAPPED, Kind
from svcmesh.discovery.xds.routes import Listener, Routes, listener_of, routes_of

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as Packed

    from svcmesh._proto import svcmesh_xds_pb2 as wire

Resource = Listener | Routes | Cluster | Assignment


@dataclass(frozen=True, slots=True)
class Decoded:
    """A resource, or ``why`` it is none. ``name`` is "" where that cannot be known."""

    name: str
    resource: Resource | None
    why: str = ""


def decode(kind: Kind, packed: Packed, known: Mapping[str, Candidates] | None = None) -> Decoded:
    """Return what a resource of ``kind`` says. Never raises.

    Args:
        kind: what it is to be. packed: the resource.
        known: of clusters by name, what their endpoints said before; brought up to date.
    """
    from google.protobuf.message import DecodeError

    from svcmesh._proto import svcmesh_xds_pb2 as wire

    if packed.type_url == WRAPPED:
        try:
            packed = wire.Resource.FromString(packed.value).resource
        except DecodeError as error:
            return Decoded("", None, str(error))
    if packed.type_url != kind.value:
        return Decoded("", None, f"it is of type {packed.type_url[:160]!r}")
    name, found, why = _decoded(kind, packed.value, known or {})
    return Decoded(name, found, why) if name or why else Decoded("", None, "it has no name")


def decode_assignment(message: wire.ClusterLoadAssignment, listed: Sequence[Listed]) -> Decoded:
    """Return what endpoints say that are partly no messages, see `assignment_of`. Never raises."""
    name = message.cluster_name
    try:
        found = assignment_of(unread(message), listed)
    except Invalid as error:
        return Decoded(name, None, str(error))
    return Decoded(name, found) if name else Decoded("", None, "it has no name")


def _decoded(kind: Kind, content: bytes, known: Mapping[str, Candidates]) -> tuple[str, Resource | None, str]:
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
            assignment = wire.UnreadAssignment.FromString(content)
            name = assignment.cluster_name
            found = assignment_of(assignment, known=known.get(name))
    except (Invalid, DecodeError) as error:
        return name, None, str(error)
    return name, found, ""
