"""The part of the servers that is this client's, where clients know their numbers: no overlap but what evenness takes.

Lay the servers on a ring, each with an arc as long as its weight, and the clients on another one of the same length.
Each client calls the servers that face its own arc, and as many next ones as it needs to have enough; a server that it
faces in part gets that part of a share. So every server is called by equally many clients, as chance (see
`svcmesh.balance.random_subsetting`) would never have it. It takes clients that are numbered: the pods of a StatefulSet,
the workers of a server.

Source: Finagle, DeterministicAperture.scala and WeightedAperture.scala.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from svcmesh.balance.affinity import parts_of
from svcmesh.balance.cell import Cell
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.picker import LoadBalancer, Picker, Rng
from svcmesh.balance.random_choice import Random
from svcmesh.balance.redraw import serving
from svcmesh.balance.weighed import Unweighed, Weighed, as_cells
from svcmesh.balance.weighted_round_robin import WeightedRoundRobin
from svcmesh.balance.wrapping import Wrapping
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.errors import ConfigError
from svcmesh.core.hashing import xxh64

ROUNDING = 1e-9
"""Parts of an arc that are none, or all of it."""


@dataclass(frozen=True)
class DeterministicAperture(Wrapping):
    """``child_policy`` over the endpoints that are this instance's part of them.

    Args:
        instance_id: which of the caller's instances this is, from 0.
        total_instances: how many there are.
        min_aperture: endpoints to choose from, at least; default 12. Fewer may all be ill at once.
        child_policy: who chooses among them: `LeastRequest` (default), `Random` or `WeightedRoundRobin`, which go by
            weights and so can give an endpoint a part of a share.

    All instances must see the same endpoints; their order does not matter. What is said of subsets of those who may be
    called, and of priorities and localities, in `svcmesh.balance.random_subsetting.RandomSubsetting` is true here, too.

    Raises:
        ConfigError: a number out of its range, or another ``child_policy``.

    Cost: building is O(n log n); a pick costs what that of ``child_policy`` with unequal weights does.
    """

    instance_id: int
    total_instances: int
    min_aperture: int = 12
    child_policy: LoadBalancer = field(default_factory=LeastRequest)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        checks.whole("total_instances", self.total_instances, 1)
        if checks.whole("instance_id", self.instance_id, 0) >= self.total_instances:
            raise ConfigError(
                f"instance_id must be below total_instances {self.total_instances}, not {self.instance_id}"
            )
        checks.whole("min_aperture", self.min_aperture, 1)
        if not isinstance(self.child_policy, LeastRequest | Random | WeightedRoundRobin):
            weighing = "LeastRequest(), Random() or WeightedRoundRobin()"
            raise ConfigError(f"child_policy must be {weighing}, which go by weights, not {self.child_policy!r}")

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        parts = list(self.aperture(serving(cells)))
        if all(part == 1 for _, part in parts):
            return self.child_policy.over([cell for cell, _ in parts] if parts else cells, rng, clock)
        weighed = [Weighed(cell, cell.endpoint.weight * part or cell.endpoint.weight) for cell, part in parts]
        return Unweighed(self.child_policy.over(as_cells(weighed), rng, clock))

    def width(self, endpoints: int) -> float:
        """Return the part of the ring, from 0 to 1, that is faced by each instance: a multiple of its own arc."""
        arcs = -(-min(self.min_aperture, endpoints) * self.total_instances // endpoints)
        return min(1.0, arcs / self.total_instances)

    def aperture(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, float]]:
        """Yield the cells that this instance calls, and what part of each is its own, above 0 and up to 1."""
        if not cells:
            return
        begin = self.instance_id / self.total_instances
        end = begin + self.width(len(cells))
        ring = sorted(cells, key=_ring_order)
        place = 0.0
        for cell, arc in zip(ring, parts_of([cell.endpoint.weight for cell in ring]), strict=True):
            part = _faced(place, arc, begin, end) + _faced(place, arc, begin - 1, end - 1)
            place += arc
            if part > ROUNDING:
                yield cell, part if part < 1 - ROUNDING else 1.0


def _ring_order(cell: Cell) -> tuple[int, str]:
    """Neighbours in a list are often neighbours in a rack; on the ring they should not be."""
    return xxh64(cell.endpoint.address), cell.endpoint.address


def _faced(place: float, arc: float, begin: float, end: float) -> float:
    """Return what part of an arc is faced; of one too short for a float, which is a point, all or nothing."""
    if place + arc == place:
        return float(begin <= place % 1 < end)
    return max(0.0, min(place + arc, end) - max(place, begin)) / arc
