"""Ring hash: consistent hashing on a circle, for caches that should lose as little as possible when endpoints change.

Each endpoint owns points on a circle of 64-bit numbers, in proportion to its weight, and a key belongs to the next
point. It is Envoy's ring to the bit, so that a Python process and an Envoy sidecar send a key to the same endpoint.
`Maglev` is more even, cheaper to ask, and moves fewer keys: when an endpoint leaves, Envoy's ring gives those who stay
more points, and so moves keys among them. Only a ring with a fixed number of points per endpoint would move none.

Source: Karger et al., STOC 1997; Envoy, ring_hash_lb.cc; gRFC A42.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import ClassVar, Final

from svcmesh.balance import bounded_load
from svcmesh.balance.affinity import AffinityPicker, host_key, no_key, normalized, numbers
from svcmesh.balance.bounded_load import Bound
from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import EmptyPicker, serving
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.giving_way import giving_way
from svcmesh.core.hashing import murmur2, xxh64

LARGEST: Final = 8_388_608
USUAL: Final = 4096
HASHES: Final = {"XX_HASH": xxh64, "MURMUR_HASH_2": murmur2}


@dataclass(frozen=True)
class RingHash(Configuration):
    """Endpoints on a circle; a key belongs to the next point of it.

    Args:
        minimum_ring_size: points at least, from 1 to 8,388,608; default 1,024. Shares are even to about 30 % with 100
            points per endpoint, to 10 % with 650.
        maximum_ring_size: points at most, from 1 to 8,388,608 (Envoy's default). None (default) is gRPC's 4,096, or
            the minimum, or the number of endpoints if that is more: weights come from registries, and 1 beside 2**32
            would make a ring that fills the memory. Endpoints below their share of one point may own nothing; they
            come last on the paths of keys.
        hash_function: ``"XX_HASH"`` (default) or ``"MURMUR_HASH_2"``, for the points; keys are hashed by the caller.
        hash_balance_factor: percent of an even share that an endpoint may have in flight, at least 100; None or 0
            (default) for no bound. See `svcmesh.balance.bounded_load`.

    Raises:
        ConfigError: one of them is out of its range, or the minimum is above the maximum.

    Cost: a pick is one look-up, at times a binary search. Building takes about a microsecond per point, and more than
    ``minimum_ring_size`` points are made when weights differ.

    Threads: any; nothing changes after building.
    """

    affinity: ClassVar[bool] = True
    slow: ClassVar[bool] = True

    minimum_ring_size: int = 1024
    maximum_ring_size: int | None = None
    hash_function: str = "XX_HASH"
    hash_balance_factor: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        most = self.minimum_ring_size if self.maximum_ring_size is None else self.maximum_ring_size
        for name, size in (("minimum_ring_size", self.minimum_ring_size), ("maximum_ring_size", most)):
            checks.whole(name, size, 1)
            if size > LARGEST:
                raise ConfigError(f"{name} must be at most {LARGEST:,}, not {checks.shown(size)}")
        if self.minimum_ring_size > most:
            raise ConfigError(
                f"minimum_ring_size {self.minimum_ring_size} is above maximum_ring_size {self.maximum_ring_size}"
            )
        if not isinstance(self.hash_function, str) or self.hash_function not in HASHES:
            raise ConfigError(f"hash_function must be one of {', '.join(HASHES)}, not {self.hash_function!r}")
        bounded_load.check(self.hash_balance_factor)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        placed = serving(cells)
        if not placed:
            return EmptyPicker(cells)
        shares = normalized(placed)
        bound = Bound(placed, shares, self.hash_balance_factor) if self.hash_balance_factor else None
        return _RingPicker(cells, placed, *self._points(placed, shares), rng, bound)

    def _points(self, cells: Sequence[Cell], shares: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the points in their order, and whose they are."""
        digest = HASHES[self.hash_function]
        points: list[int] = []
        owners: list[int] = []
        for name, number in giving_way(self._names(cells, shares), AT_ONCE):
            points.append(digest(name))
            owners.append(number)
        order = _in_order(points)
        return tuple([points[place] for place in order]), tuple([owners[place] for place in order])

    def _names(self, cells: Sequence[Cell], shares: Sequence[float]) -> Iterator[tuple[str, int]]:
        """Yield what each point is the hash of, and whose it is, as a place in the list.

        The sums are Envoy's, and their fractions carry over from one endpoint to the next.
        """
        least = min(shares)
        most = self.maximum_ring_size or max(USUAL, self.minimum_ring_size, len(cells))
        scale = (
            min(ceil(least * self.minimum_ring_size) / least, most) if least else most
        )  # a share too small for a float
        made, target = 0, 0.0
        for number, (cell, share) in enumerate(zip(cells, shares, strict=True)):
            target += scale * share
            prefix, first = f"{host_key(cell)}_", made
            while made < target:
                yield f"{prefix}{made - first}", number
                made += 1


def _in_order(points: Sequence[int]) -> list[int]:
    """Return the places of points, the lowest point first.

    No other thread runs while a list is sorted, which with millions of points takes seconds. So they are put into equal
    parts of the circle first, each sorted within a millisecond or two.
    """
    bits = (len(points) // SORTED).bit_length()
    shift = 64 - bits
    parts: list[list[int]] = [[] for _ in range(1 << bits)]
    for place, point in enumerate(points):
        parts[point >> shift].append(place)
    for part in giving_way(parts):
        part.sort(key=points.__getitem__)
    return [place for part in parts for place in part]


class _RingPicker(AffinityPicker):
    """The ring, and a table of arcs over it, with `pick` written out.

    A binary search costs more the longer the ring, in comparisons and in memory to wait for. So the circle is cut into
    equal arcs, a few for each point: on most of them is no point, and all their keys belong to one endpoint.

    Both have numbers of endpoints. A list of so many references would be looked through by the garbage collector, with
    every thread waiting: by each collection while it is young, and by each full one. A tuple of numbers is not. `pick`
    makes such a list when it is first asked, for those who care for a few nanoseconds; a mesh never asks.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        placed: Sequence[Cell],
        points: tuple[int, ...],
        owners: tuple[int, ...],
        rng: Rng,
        bound: Bound | None,
    ) -> None:
        super().__init__(cells, rng, bound)
        self._placed = placed
        self._endpoints = [*(cell.endpoint for cell in placed), None]  # the last one is nobody's
        self._points = points
        self._owners = (*owners, owners[0])  # beyond the last point is the first
        bits = (len(points) * ARCS - 1).bit_length()
        self._shift = 64 - bits
        self._arcs = self._cut(1 << bits)
        self._ends: list[Endpoint | None] = []

    def _cut(self, count: int) -> array[int]:
        """Return whose each arc is: nobody's where a point divides it."""
        nobody = len(self._placed)
        arcs = numbers(nobody + 1)
        for point, owner in giving_way(zip(self._points, self._owners, strict=False), AT_ONCE):
            arc = point >> self._shift
            missing = arc - len(arcs)
            if missing >= 0:
                arcs.extend([owner] * missing + [nobody])
        arcs.extend([self._owners[0]] * (count - len(arcs)))
        return arcs

    def _by_arc(self) -> list[Endpoint | None]:
        return [self._endpoints[number] for number in self._arcs]

    def owner(self, key: int) -> Cell:
        """Return whose the key is."""
        key &= _MASK
        number = self._arcs[key >> self._shift]
        if number == len(self._placed):
            number = self._owners[bisect_left(self._points, key)]
        return self._placed[number]

    def path(self, key: int) -> Iterator[Cell]:
        """Yield the owners of the points from the key on, as Envoy's retries do, and then who owns none."""
        owners, begin, seen = self._owners, bisect_left(self._points, key & _MASK), set[int]()
        for place in chain(range(begin, len(owners)), range(begin)):
            number = owners[place]
            if number not in seen:
                seen.add(number)
                yield self._placed[number]
        rest = [cell for number, cell in enumerate(self._placed) if number not in seen]
        for step in range(len(rest)):
            yield rest[(key + step) % len(rest)]

    def pick(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the endpoint that the key belongs to, or the next on the circle that is not excluded, or None."""
        if exclude or key is None or self._bound is not None:
            cell = self.choose_from(key, exclude)
            return None if cell is None else cell.endpoint
        try:
            return (
                self._ends[key >> self._shift] or self._endpoints[self._owners[bisect_left(self._points, key & _MASK)]]
            )
        except IndexError:  # the first time, or no number of 64 bits
            self._ends = self._ends or self._by_arc()
            return self.pick(key & _MASK)
        except TypeError:
            raise no_key(key) from None


_MASK = (1 << 64) - 1
AT_ONCE = 16  # points, of a microsecond or two each
SORTED = 4096  # points at a time, at most about so many
ARCS = 6  # for each point at least: the more, the fewer searches
