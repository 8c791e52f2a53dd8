"""The successes of a whole service, for breakers of its scope: sums, taken on failing paths only."""

from __future__ import annotations

from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Member


class ClusterTraffic:
    """What a breaker may ask of a service's successes. Cost: O(endpoints) for each question."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def succeeded(self) -> int:
        """Attempts that ended well, ever."""
        return self._cluster.departed + sum(member.succeeded for member in self._members())

    def succeeded_at(self, instant: float) -> int:
        """Return the same as it was at ``instant``; what those who have left did counts as older than that."""
        return self._cluster.departed + sum(member.succeeded_at(instant) for member in self._members())

    def _members(self) -> list[Member]:
        return list(self._cluster.members.values())
