"""The four kinds of resources that lead from a name to endpoints, and what each is called on the wire.

A listener names routes, routes name clusters, a cluster names its endpoints. Each kind is a conversation of its own on
the one stream: own names, own version, own nonce.

Source: Envoy, "xDS REST and gRPC protocol".
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

_PREFIX = "type.googleapis.com/envoy."


class Kind(Enum):
    """A kind of resource; its value is the type on the wire."""

    LISTENER = _PREFIX + "config.listener.v3.Listener"
    ROUTES = _PREFIX + "config.route.v3.RouteConfiguration"
    CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
    ENDPOINTS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"

    @property
    def shown(self) -> str:
        """What messages call one of them."""
        return _SHOWN[self]

    @property
    def listed_whole(self) -> bool:
        """Whether a response of the state of the world has all there are: one that is missing is then deleted."""
        return self in {Kind.LISTENER, Kind.CLUSTER}


_SHOWN = {
    Kind.LISTENER: "listener",
    Kind.ROUTES: "route configuration",
    Kind.CLUSTER: "cluster",
    Kind.ENDPOINTS: "endpoints of",
}

HTTP_MANAGER = _PREFIX + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
"""What the listener of a client holds."""

AGGREGATE = _PREFIX + "extensions.clusters.aggregate.v3.ClusterConfig"
"""A cluster that is made of others, the first of which is used while it can be."""

WRAPPED = _PREFIX + "service.discovery.v3.Resource"
"""A resource in an envelope that has its name."""


class Key(NamedTuple):
    """One resource."""

    kind: Kind
    name: str

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"{self.kind.shown} {self.name[:160]!r}"
