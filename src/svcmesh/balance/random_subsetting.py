"""A random few of many endpoints, for services so large that no client should hold connections to all of their servers.

A thousand clients of a thousand servers are a million connections, with keepalives and health checks on each. Every
client draws a subset instead: it sorts the endpoints by a hash that is seeded by a number of its own, and keeps the
first ones. Of a change each client notices little: one endpoint that goes takes one out of the subset at most and lets
one in (rendezvous hashing). The price is that servers have unequal numbers of clients, as chance will have it.

Source: gRFC A68.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from svcmesh.balance.cell import Cell
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.picker import LoadBalancer, Picker, Rng
from svcmesh.balance.redraw import serving
from svcmesh.balance.wrapping import Wrapping
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.errors import ConfigError
from svcmesh.core.hashing import xxh64

_SCORE = "score of random subsetting"


@dataclass(frozen=True)
class RandomSubsetting(Wrapping):
    """``child_policy`` over ``subset_size`` endpoints, others in each client.

    Args:
        subset_size: how many endpoints, at least 1. Where there are no more than that, it is all of them. With 20 it is
            rare that nobody in a subset is well.
        child_policy: who chooses among them; default `LeastRequest`.
        seed: of the hash, from 0 to 2**64 - 1: the same subset in every process, as A68 draws it; grpc-go hashes
            another text. None (default): another one in each process, forked children included.

    A subset is drawn anew from those who may be called: one that is ejected is replaced, and comes back when it is no
    longer. With priorities or localities each of them has a subset of its own.

    Raises:
        ConfigError: a size below 1, a seed out of its range, a ``child_policy`` that is no configuration.

    Cost: building is O(n log n); a pick costs what that of ``child_policy`` does.
    """

    subset_size: int
    child_policy: LoadBalancer = field(default_factory=LeastRequest)
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        checks.whole("subset_size", self.subset_size, 1)
        if self.seed is not None and checks.whole("seed", self.seed, 0) >= 2**64:
            raise ConfigError(f"seed must be below 2**64, not {self.seed!r}")

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        return self.child_policy.over(self.subset(cells, rng), rng, clock)

    def subset(self, cells: Sequence[Cell], rng: Rng) -> Sequence[Cell]:
        """Return the subset, in the order of its hashes; of endpoints that take no traffic none."""
        drawn = serving(cells)
        if len(drawn) <= self.subset_size:
            return cells
        return sorted(drawn, key=_seeded(self.seed) if self.seed is not None else _drawn(rng))[: self.subset_size]


def _seeded(seed: int) -> Callable[[Cell], float]:
    return lambda cell: xxh64(cell.endpoint.address, seed)


def _drawn(rng: Rng) -> Callable[[Cell], float]:
    """Return a function that draws the hash of a cell once and for all, which is what a random seed comes to."""

    def score(cell: Cell) -> float:
        found: float | None = cell.kept.get(_SCORE)
        return cell.kept.setdefault(_SCORE, rng.random()) if found is None else found

    return score
