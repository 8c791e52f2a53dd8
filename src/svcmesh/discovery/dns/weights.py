"""SRV priorities and weights as tiers and weights of endpoints (RFC 2782).

- The lowest priority is used first. Tiers are counted from 0 without gaps, whatever the numbers are.
- Weight 0 is no weight at all where others have some: the RFC's way to draw gives it one part in a sum of all plus one,
  so those with 0 share one part. Where all have 0, all are alike.
- A target with several addresses is one server, so they share its weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from svcmesh.core.address import join_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.discovery.dns.records import Service


class Target(NamedTuple):
    """One SRV record and the addresses of its target."""

    service: Service
    addresses: tuple[str, ...]


def endpoints_of(targets: Iterable[Target]) -> tuple[Endpoint, ...]:
    """Return the endpoints that SRV records amount to, in the order of their tiers.

    An address that several records lead to is one endpoint: of the best tier, with the weights of that tier together.
    """
    usable = sorted(target for target in targets if target.addresses)
    tiers = {priority: tier for tier, priority in enumerate(sorted({t.service.priority for t in usable}))}
    weights = _weights(usable)
    found: dict[str, Endpoint] = {}
    for target in usable:
        service, tier = target.service, tiers[target.service.priority]
        weight = weights[service] / len(target.addresses)
        for address in target.addresses:
            where = join_address(address, service.port)
            before = found.get(where)
            if before is not None and before.priority < tier:
                continue
            total = weight + (0.0 if before is None else before.weight)
            found[where] = Endpoint(where, weight=total, priority=tier, metadata={"target": service.target})
    return tuple(found.values())


def _weights(targets: Iterable[Target]) -> dict[Service, float]:
    """Return the weight of every record among those of its tier."""
    services = {target.service for target in targets}
    light = Counter(service.priority for service in services if not service.weight)
    weighed = {service.priority for service in services if service.weight}
    return {
        service: service.weight or (1.0 / light[service.priority] if service.priority in weighed else 1.0)
        for service in services
    }
