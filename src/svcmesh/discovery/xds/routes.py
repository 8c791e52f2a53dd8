"""From a listener to clusters: which routes it has, and which of them all calls take.

A service here is one set of endpoints, chosen before anybody knows the path of a call. So the route that counts is the
first that takes every call: that is what nearly all listeners for clients have. Routes before it, for some paths or
headers only, are not followed; a table without such a route is an error that says so.

Source: Envoy, route_components.proto; gRPC, proposals A27 and A28.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.fraction import share_of
from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.discovery.xds.kinds import HTTP_MANAGER
from svcmesh.discovery.xds.route_policy import NOTHING, is_bounded, longest_of, policy_of
from svcmesh.policy.translated import Translated

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

Shares = tuple[tuple[str, float], ...]
"""Clusters, and the part of the calls that each takes; together 1."""

_NONE = (0, 0)  # how well a pattern fits that does not
_NARROWING = frozenset({"headers", "query_parameters", "grpc", "tls_context", "dynamic_metadata", "filter_state"})


@dataclass(frozen=True, slots=True)
class Host:
    """The route of a virtual host that takes all calls, or ``why`` it has none; ``skipped`` others come before it.

    ``policy`` is what it says of how they are made; ``bounded``: also for how long, whatever the listener says of it.
    """

    domains: tuple[str, ...]
    shares: Shares
    why: str = ""
    skipped: int = 0
    policy: Translated = NOTHING
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class Routes:
    """A route configuration. Many services may share one that has a host for each of them."""

    name: str
    hosts: tuple[Host, ...]
    _by_domain: dict[str, Host] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_pattern: list[tuple[str, Host]] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        """Put hosts where they are looked for; of two with one domain the first counts."""
        for host in self.hosts:
            for domain in host.domains:
                if domain.startswith("*") or domain.endswith("*"):
                    self._by_pattern.append((domain, host))
                else:
                    self._by_domain.setdefault(domain, host)

    def of(self, name: str) -> Host:
        """Return the host that a call to ``name`` means: by its exact domain, else by the longest pattern.

        Raises:
            DiscoveryError: there is none, or it has no route that takes all calls.

        Cost: O(patterns), and nothing of that for an exact domain.
        """
        name = name.lower()
        best = self._by_domain.get(name) or self._by_its_pattern(name)
        if best is None:
            raise DiscoveryError(f"route configuration {self.name!r} has no virtual host for {name[:160]!r}")
        if not best.shares:
            raise DiscoveryError(f"route configuration {self.name!r}: {best.why}")
        return best

    def _by_its_pattern(self, name: str) -> Host | None:
        fits = [(_fit(pattern, name), host) for pattern, host in self._by_pattern]
        fit, best = max(fits, key=itemgetter(0), default=(_NONE, None))
        return None if fit == _NONE else best


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener for clients.

    Attributes:
        name: its name. routes: its routes, or the name of its route configuration.
        longest: seconds that a call may take by routes that do not say it themselves, 0: any; None: it says nothing.
    """

    name: str
    routes: Routes | str
    longest: float | None = None


def listener_of(message: wire.Listener) -> Listener:
    """Return what a message says.

    Raises:
        Invalid: it is none for clients, has no routes, or a time that is none.
    """
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    held = message.api_listener.api_listener
    if held.type_url != HTTP_MANAGER:
        raise Invalid(f"its api_listener holds {held.type_url[:160]!r} instead of {HTTP_MANAGER}")
    manager = wire.HttpConnectionManager.FromString(held.value)
    longest = longest_of(manager.common_http_protocol_options)
    if manager.HasField("route_config"):
        return Listener(message.name, routes_of(manager.route_config), longest)
    if not manager.rds.route_config_name:
        raise Invalid("it has neither route_config nor rds with a route_config_name")
    return Listener(message.name, manager.rds.route_config_name, longest)


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
            bounded = is_bounded(route.route)
            return Host(domains, shares, why, number, policy_of(route.route, host), bounded)
    return Host(domains, (), f"{named} has no route that takes all calls (prefix '' or '/', and nothing else)")


def _takes_all(match: wire.RouteMatch) -> bool:
    """Whether every call matches."""
    narrowed = any(field.name in _NARROWING for field, _ in match.ListFields())
    if match.HasField("runtime_fraction"):
        narrowed = narrowed or share_of(match.runtime_fraction.default_value) < 1
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


def _fit(pattern: str, name: str) -> tuple[int, int]:
    """Return how well a pattern fits, in the order of gRPC: by its end, by its beginning, as any."""
    if pattern == "*":
        return 1, 0
    if pattern.startswith("*") and name.endswith(pattern[1:]) and len(name) >= len(pattern):
        return 3, len(pattern)
    if pattern.endswith("*") and name.startswith(pattern[:-1]) and len(name) >= len(pattern):
        return 2, len(pattern)
    return _NONE
