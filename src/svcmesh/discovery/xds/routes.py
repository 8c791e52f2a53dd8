"""From a listener to clusters: which routes it has, and which of them all calls take.

A service here is one set of endpoints, chosen before anybody knows the path of a call. So the route that counts is the
first that takes every call: that is what nearly all listeners for clients have. Routes before it, for some paths or
headers only, are not followed; a table without such a route is an error that says so.

Source: Envoy, route_components.proto; gRPC, proposals A27 and A28.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.discovery.xds.kinds import HTTP_MANAGER
from svcmesh.discovery.xds.route_policy import NOTHING, policy_of
from svcmesh.policy.translated import Translated

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

Shares = tuple[tuple[str, float], ...]
"""Clusters, and the part of the calls that each takes; together 1."""

_NONE = (0, 0)  # how well a domain fits that does not


@dataclass(frozen=True, slots=True)
class Host:
    """The route of a virtual host that takes all calls, or ``why`` it has none; ``skipped`` others come before it.

    ``policy`` is what it says of how they are made.
    """

    domains: tuple[str, ...]
    shares: Shares
    why: str = ""
    skipped: int = 0
    policy: Translated = NOTHING


@dataclass(frozen=True, slots=True)
class Routes:
    """A route configuration."""

    name: str
    hosts: tuple[Host, ...]

    def of(self, name: str) -> Host:
        """Return the host that a call to ``name`` means: by its exact domain, else by the longest pattern.

        Raises:
            DiscoveryError: there is none, or it has no route that takes all calls.
        """
        name = name.lower()
        fits = [(max(_fit(domain, name) for domain in host.domains), host) for host in self.hosts]
        fit, best = max(fits, key=itemgetter(0), default=(_NONE, None))
        if best is None or fit == _NONE:
            raise DiscoveryError(f"route configuration {self.name!r} has no virtual host for {name[:160]!r}")
        if not best.shares:
            raise DiscoveryError(f"route configuration {self.name!r}: {best.why}")
        return best


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener for clients: its routes, or the name of its route configuration."""

    name: str
    routes: Routes | str


def listener_of(message: wire.Listener) -> Listener:
    """Return what a message says.

    Raises:
        Invalid: it is none for clients, or has no routes.
    """
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    held = message.api_listener.api_listener
    if held.type_url != HTTP_MANAGER:
        raise Invalid(f"its api_listener holds {held.type_url[:160]!r} instead of {HTTP_MANAGER}")
    manager = wire.HttpConnectionManager.FromString(held.value)
    if manager.HasField("route_config"):
        return Listener(message.name, routes_of(manager.route_config))
    if not manager.rds.route_config_name:
        raise Invalid("it has neither route_config nor rds with a route_config_name")
    return Listener(message.name, manager.rds.route_config_name)


def routes_of(message: wire.RouteConfiguration) -> Routes:
    """Return what a message says.

    Raises:
        Invalid: a virtual host without domains, weights that are nothing together, or times that are none.
    """
    hosts: list[Host] = []
    for host in message.virtual_hosts:
        if not host.domains:
            raise Invalid(f"virtual host {host.name[:80]!r} has no domains")
        hosts.append(_host(host))
    return Routes(message.name, tuple(hosts))


def _host(host: wire.VirtualHost) -> Host:
    domains = tuple(domain.lower() for domain in host.domains)
    named = f"virtual host {host.name[:80]!r}"
    for number, route in enumerate(host.routes):
        if _takes_all(route.match):
            shares = _shares(route.route)
            why = "" if shares else f"the route of {named} that takes all calls leads to no cluster that it names"
            return Host(domains, shares, why, number, policy_of(route.route, host))
    return Host(domains, (), f"{named} has no route that takes all calls (prefix '' or '/', and nothing else)")


def _takes_all(match: wire.RouteMatch) -> bool:
    """Whether every call matches."""
    narrowed = match.headers or match.query_parameters or match.HasField("runtime_fraction")
    return match.WhichOneof("path_specifier") == "prefix" and match.prefix in {"", "/"} and not narrowed


def _shares(route: wire.RouteAction) -> Shares:
    if route.cluster:
        return ((route.cluster, 1.0),)
    weights = [(one.name, one.weight.value) for one in route.weighted_clusters.clusters if one.weight.value]
    total = sum(weight for _, weight in weights)
    if route.HasField("weighted_clusters") and not total:
        raise Invalid("weighted clusters whose weights are 0 together")
    if not all(name for name, _ in weights):
        raise Invalid("a weighted cluster without a name")
    return tuple((name, weight / total) for name, weight in weights)


def _fit(domain: str, name: str) -> tuple[int, int]:
    """Return how well a domain fits, in the order of gRPC: exactly, by its end, by its beginning, as any."""
    if domain == name:
        return 4, len(domain)
    if domain == "*":
        return 1, 0
    if domain.startswith("*") and name.endswith(domain[1:]) and len(name) >= len(domain):
        return 3, len(domain)
    if domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
        return 2, len(domain)
    return _NONE
