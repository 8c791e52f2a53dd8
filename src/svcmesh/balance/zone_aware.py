"""Calls kept in the caller's own zone, as far as the zone's part of the servers allows.

If a zone has 40 % of the clients and 25 % of the servers, its clients keep 62.5 % of their calls at home and send the
rest where there are more servers than clients. So every server gets the same number of calls although most of them
never leave their zone. What it takes is to know how many clients there are in each zone: those of the caller's own
service. Where nobody can say, `LocalityFailover` goes by distance alone.

Source: Envoy, load_balancer_impl.cc (ZoneAwareLoadBalancerBase), in parts of 10,000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from svcmesh.balance.locality_weighted import pairs
from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError

WHOLE = 10_000
"""Shares are in parts of this."""


@dataclass(frozen=True)
class ZoneAware:
    """Prefer endpoints of the caller's own locality, and keep all endpoints equally busy.

    Args:
        locality: where this process runs.
        own: how many instances the caller's own service has in each locality, this process included.
        min_cluster_size: healthy endpoints below which localities are ignored, at least 0; default 6.
        force_local_zone: healthy endpoints in the own locality from which on all calls stay there, whatever ``own``
            says, at least 1; default None: never.

    It holds for priority 0, while that is not in panic and has endpoints in at least two localities, ``own`` names at
    least two, and the own one is among them; else localities are ignored.

    Raises:
        ConfigError: a field of the wrong kind or out of its range.
    """

    locality: Locality
    own: Mapping[Locality, int] | Iterable[tuple[Locality, int]]
    min_cluster_size: int = 6
    force_local_zone: int | None = None

    def __post_init__(self) -> None:
        """Check every field, and store the counts as pairs."""
        if not isinstance(self.locality, Locality):
            raise ConfigError(f"locality must be a Locality, not {self.locality!r}")
        object.__setattr__(self, "own", pairs("own", self.own))
        checks.whole("min_cluster_size", self.min_cluster_size, 0)
        if self.force_local_zone is not None:
            checks.whole("force_local_zone", self.force_local_zone, 1)

    def route(self, upstream: Mapping[Locality, int]) -> Route | None:
        """Return how calls are shared, or None where localities are to be ignored.

        Args:
            upstream: healthy endpoints by locality; localities whose endpoints are all ill have 0.
        """
        own = {zone: clients for zone, clients in dict(self.own).items() if clients}
        forced = self.force_local_zone is not None and upstream.get(self.locality, 0) >= self.force_local_zone
        if len(upstream) < 2 or (len(own) < 2 and self.force_local_zone is None) or self.locality not in own:
            return None
        if sum(upstream.values()) < self.min_cluster_size:
            return None
        order = sorted(upstream, key=lambda zone: zone != self.locality)  # the own one first, if it is there
        parts = [_parts(own.get(zone, 0), upstream[zone], own, upstream) for zone in order]
        if self.locality not in upstream:
            return Route(tuple(order), 0, _cumulated(parts, first=0))
        clients, servers = parts[0]
        if forced or (servers > 0 and servers >= clients):
            return Route(tuple(order), WHOLE, ())
        return Route(tuple(order), servers * WHOLE // clients if clients else 0, _cumulated(parts, first=1))


@dataclass(frozen=True, slots=True)
class Route:
    """How the calls of one locality are shared.

    Attributes:
        order: the localities of the endpoints, the own one first if there is one.
        local: the parts of 10,000 that stay in the first one; all of them, and nothing else is said.
        residual: for each of the order the sum of what it and those before it can take from others.
    """

    order: tuple[Locality, ...]
    local: int
    residual: tuple[int, ...]

    @property
    def stays(self) -> bool:
        """Whether all calls stay in the own locality."""
        return self.local == WHOLE

    def draw(self, rng: Rng) -> Callable[[], int]:
        """Return a function that draws a place in the order."""
        random, local, residual, size = rng.random, self.local, self.residual, len(self.order)

        def place() -> int:
            if local and int(random() * WHOLE) < local:
                return 0
            if not residual[-1]:  # nothing but rounding was left
                return int(random() * size)
            return bisect_right(residual, int(random() * residual[-1]))

        return place

    def shares(self) -> tuple[float, ...]:
        """Return the parts of 1 that each of the order gets."""
        kept, size = self.local / WHOLE, len(self.order)
        if self.stays:
            return (1.0, *(0.0,) * (size - 1))
        total = self.residual[-1]
        own = [part - before for part, before in zip(self.residual, (0, *self.residual), strict=False)]
        away = [part / total if total else 1 / size for part in own]
        return tuple((1 - kept) * part + kept * (number == 0) for number, part in enumerate(away))


def _parts(
    clients: int, servers: int, own: Mapping[Locality, int], upstream: Mapping[Locality, int]
) -> tuple[int, int]:
    """Return a locality's parts of all clients and of all servers; one without servers has neither."""
    if not servers:
        return 0, 0
    return WHOLE * clients // sum(own.values()), WHOLE * servers // sum(upstream.values())


def _cumulated(parts: Sequence[tuple[int, int]], first: int) -> tuple[int, ...]:
    """Return running sums of what localities have more of servers than of clients, from the first one on."""
    sums: list[int] = []
    total = 0
    for number, (clients, servers) in enumerate(parts):
        if number >= first:
            total += max(0, servers - clients)
        sums.append(total)
    return tuple(sums)
