"""A cluster: where its endpoints are. How it balances and what it limits is the policy's business: the caller's.

Source: Envoy, cluster.proto; gRPC, proposals A27 and A37 (aggregates, names that DNS resolves).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svcmesh.discovery.xds.assignment import Assignment, assignment_of, unread
from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.discovery.xds.kinds import AGGREGATE

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster.

    Attributes:
        name: its name.
        held: its endpoints where it has them itself, the name that they are asked for by, or the clusters it is made
            of, the first of which is used while it can be.
    """

    name: str
    held: Assignment | str | tuple[str, ...]


def cluster_of(message: wire.Cluster) -> Cluster:
    """Return what a message says.

    Raises:
        Invalid: a type that has no endpoints (ORIGINAL_DST), or is not known; endpoints that cannot be used.
    """
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    types = wire.Cluster.DiscoveryType
    if message.HasField("cluster_type"):
        return Cluster(message.name, _aggregated(message.cluster_type))
    if message.type == types.EDS:
        return Cluster(message.name, message.eds_cluster_config.service_name or message.name)
    if message.type in {types.STATIC, types.STRICT_DNS, types.LOGICAL_DNS}:
        if not message.HasField("load_assignment"):
            raise Invalid("it has no load_assignment")
        return Cluster(message.name, assignment_of(unread(message.load_assignment)))
    raise Invalid(f"clusters of type {message.type} have no endpoints to balance over")


def _aggregated(kind: wire.Cluster.CustomClusterType) -> tuple[str, ...]:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    if kind.typed_config.type_url != AGGREGATE:
        raise Invalid(f"clusters of type {kind.name[:80]!r} are not known")
    names = tuple(wire.AggregateCluster.FromString(kind.typed_config.value).clusters)
    if not names or not all(names):
        raise Invalid("it is made of clusters without names, or of none")
    return names
