"""Endpoints nearby first: how far away an endpoint is becomes its priority.

The nearest ones take all calls while enough of them are well, and what they cannot take spills to the next nearest
ones, by the same arithmetic as between priorities that a registry gives. It needs nothing but to know where this
process runs, and something that notices when an endpoint is ill: `OutlierDetection`, or the registry's checks.

Source: Istio, loadbalancer.go (applyLocalityFailover); its levels and its way to combine them with given priorities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from svcmesh.core import checks
from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.core.errors import ConfigError

LEVELS = 5


@dataclass(frozen=True)
class LocalityFailover:
    """Use endpoints of the own sub-zone first, then of the zone, of the region, of the region to fail over to, others.

    Args:
        locality: where this process runs.
        failover: which region to go to before others when this one cannot take all calls, by region; default: all
            other regions are equal.

    Priorities that the registry gives go first: distance decides among endpoints of equal priority.

    Raises:
        ConfigError: no locality, or regions that are no texts.
    """

    locality: Locality
    failover: Mapping[str, str] | Iterable[tuple[str, str]] = field(default=())

    def __post_init__(self) -> None:
        """Check the fields, and store the regions as pairs."""
        if not isinstance(self.locality, Locality):
            raise ConfigError(f"locality must be a Locality, not {self.locality!r}")
        regions = checks.pairs("failover", self.failover, "regions by region")
        if not all(isinstance(region, str) for pair in regions for region in pair):
            raise ConfigError(f"failover must be regions by region, not {self.failover!r}")
        object.__setattr__(self, "failover", regions)

    def level(self, endpoint: Endpoint) -> int:
        """Return a number that is lower the sooner an endpoint is to be used."""
        return endpoint.priority * LEVELS + self._distance(endpoint.locality or Locality())

    def _distance(self, other: Locality) -> int:
        own = self.locality
        if other.region != own.region:
            target = dict(self.failover).get(own.region)
            return 3 if target is None or other.region == target else 4
        if other.zone != own.zone:
            return 2
        return 0 if other.sub_zone == own.sub_zone else 1
