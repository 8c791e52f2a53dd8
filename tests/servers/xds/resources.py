"""Resources as a control plane for gRPC and Envoy sends them, by the numbers of Envoy's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.servers.xds.wire import encode, packed

LISTENER = "envoy.config.listener.v3.Listener"
ROUTES = "envoy.config.route.v3.RouteConfiguration"
CLUSTER = "envoy.config.cluster.v3.Cluster"
ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
KINDS = (LISTENER, ROUTES, CLUSTER, ENDPOINTS)

HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED = range(1, 6)

_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_AGGREGATE = "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
_ADS = {3: {}, 6: 2}  # a ConfigSource: the same stream, version 3


def listener(name: str, routes: str | dict[int, Any], longest: int | None = None) -> bytes:
    """Return a listener for clients, with the name of its routes, or routes in it; ``longest``: seconds of calls."""
    leads = {3: {1: _ADS, 2: routes}} if isinstance(routes, str) else {4: routes}
    filters = {5: [{1: "router", 4: packed(_ROUTER, {})}]}
    options = {} if longest is None else {35: {4: {1: longest}}}
    return encode({1: name, 19: {1: packed(_HTTP, {2: "test", **leads, **filters, **options})}})


def route(action: Mapping[int, Any], **match: Any) -> dict[int, Any]:
    """Return a route; ``prefix`` and ``path`` match, by default all calls do."""
    return {1: {2: match["path"]} if "path" in match else {1: match.get("prefix", "")}, 2: dict(action)}


def table(name: str, routes: Sequence[dict[int, Any]], domains: Sequence[str] = ("*",)) -> dict[int, Any]:
    """Return a route configuration of one virtual host, as a message."""
    return {1: name, 2: [{1: "all", 2: list(domains), 3: list(routes)}]}


def to_cluster(name: str) -> dict[int, Any]:
    """Return what a route does that leads to one cluster."""
    return {1: name}


def to_clusters(**weights: int) -> dict[int, Any]:
    """Return what a route does that leads to several."""
    return {3: {1: [{1: name, 2: {1: weight}} for name, weight in weights.items()]}}


def cluster(name: str, endpoints: str = "") -> bytes:
    """Return a cluster whose endpoints are asked for, by its own name or another."""
    named = {2: endpoints} if endpoints else {}
    return encode({1: name, 2: 3, 3: {1: _ADS, **named}, 4: {1: 1}})


def fixed_cluster(name: str, addresses: Sequence[str], kind: int = 0) -> bytes:
    """Return a cluster that has its endpoints itself: STATIC, or one of the kinds for names."""
    return encode({1: name, 2: kind, 4: {1: 1}, 33: assignment_fields(name, [place(addresses)])})


def aggregate(name: str, *clusters: str) -> bytes:
    """Return a cluster that is made of others."""
    return encode({1: name, 38: {1: "aggregate", 2: packed(_AGGREGATE, {1: list(clusters)})}, 4: {1: 1}, 6: 6})


def endpoint(address: str, health: int = 0, weight: int = 0, **more: Any) -> dict[int, Any]:
    """Return one endpoint; ``more`` are ``hostname`` and ``protocol``."""
    host, _, port = address.rpartition(":")
    socket = {1: more.get("protocol", 0), 2: host.strip("[]"), 3: int(port)}
    named = {3: more["hostname"]} if "hostname" in more else {}
    weighted = {4: {1: weight}} if weight else {}
    return {1: {1: {1: socket}, **named}, 2: health, **weighted}


def place(
    endpoints: Sequence[str | dict[int, Any]], zone: str = "", *, priority: int = 0, weight: int = 1
) -> dict[int, Any]:
    """Return the endpoints of one locality; those that are text are addresses."""
    listed = [endpoint(one) if isinstance(one, str) else one for one in endpoints]
    weighted = {3: {1: weight}} if weight else {}
    return {1: {1: "eu", 2: zone} if zone else {}, 2: listed, **weighted, 5: priority}


def drop(category: str, numerator: int, denominator: int = 0) -> dict[int, Any]:
    """Return one entry of a policy that drops calls."""
    return {1: category, 2: {1: numerator, 2: denominator}}


def assignment_fields(
    name: str, places: Sequence[dict[int, Any]], drops: Sequence[dict[int, Any]] = ()
) -> dict[int, Any]:
    """Return the endpoints of a cluster, as a message."""
    return {1: name, 2: list(places), **({4: {2: list(drops)}} if drops else {})}


def assignment(name: str, places: Sequence[dict[int, Any]], drops: Sequence[dict[int, Any]] = ()) -> bytes:
    """Return the endpoints of a cluster."""
    return encode(assignment_fields(name, places, drops))


def service(name: str, addresses: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Return all that leads from a name to addresses, by kind and name."""
    return {
        LISTENER: {name: listener(name, f"{name}-routes")},
        ROUTES: {f"{name}-routes": encode(table(f"{name}-routes", [route(to_cluster(f"{name}-cluster"))]))},
        CLUSTER: {f"{name}-cluster": cluster(f"{name}-cluster", f"{name}-endpoints")},
        ENDPOINTS: {f"{name}-endpoints": assignment(f"{name}-endpoints", [place(addresses)] if addresses else [])},
    }
