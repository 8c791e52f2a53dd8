"""What pickers with affinity share: a key decides, and what is excluded sends it along a path that is its own.

The same key must meet the same endpoint in every process, and so must its retries: who comes after the owner depends
on the key and on the set of endpoints, on nothing else. A call without a key gets a random one (gRFC A42).

Endpoints are placed by their host key: the metadata ``hash_key`` if it is a text that is not empty, else the address
(Envoy, thread_aware_lb_impl.h; gRFC A61 and A76). With it an instance that moves to another address keeps its keys.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterator, Sequence
from math import inf

from svcmesh.balance.bounded_load import Bound
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, Rng, addresses
from svcmesh.core.endpoint import Endpoint


class AffinityPicker(Picker):
    """A picker whose choice goes by the key. Subclasses implement `path` and `owner`.

    Nothing here refers to itself: a table and the endpoints that it holds on to are gone as soon as the next one is in
    force, and leave nothing to the garbage collector, which looks through all tables that are young.

    Args:
        cells: all of them, those of weight 0 included.
        bound: how much more than its share an owner may have in flight; None for any amount.
    """

    def __init__(self, cells: Sequence[Cell], rng: Rng, bound: Bound | None) -> None:
        super().__init__(cells)
        self._bound = bound
        self._random = rng.random

    def path(self, key: int) -> Iterator[Cell]:
        """Yield the cells in the order in which a key may use them, its owner first; ends after the last one."""
        raise NotImplementedError

    def owner(self, key: int) -> Cell:
        """Return the first one of its path, at the cost of a look-up."""
        raise NotImplementedError

    def choose(self) -> Cell | None:
        """Choose for a call without a key."""
        return self.choose_beyond(None, ())

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return the owner of the key; the next on its path if that one is excluded or has more than its share."""
        return self.choose_beyond(key, addresses(exclude))

    def choose_beyond(self, key: int | None, excluded: Collection[str]) -> Cell | None:
        """Do the same for whom addresses of those who are excluded are at hand."""
        if key is None:
            key = int(self._random() * 2**53) << 11  # all that the draw has, as the high bits
        if not isinstance(key, int):
            raise no_key(key)
        if self._bound is not None:
            return self._bound.within(self.path(key), key, excluded)
        owner = self.owner(key)
        if owner.endpoint.address not in excluded:
            return owner
        return next((cell for cell in self.path(key) if cell.endpoint.address not in excluded), None)


def numbers(below: int) -> array[int]:
    """Return an empty array for numbers less than ``below``, as narrow as these allow."""
    return array("B" if below <= 1 << 8 else "H" if below <= 1 << 16 else "L")


def no_key(key: object) -> TypeError:
    """Return the error for a key that is no int."""
    return TypeError(f"a key must be an int, not {key!r}: svcmesh.balance.hash_key() makes one of text or bytes")


def host_key(cell: Cell) -> str:
    """Return what an endpoint is placed by."""
    named = cell.endpoint.metadata.get("hash_key")
    return named if isinstance(named, str) and named else cell.endpoint.address


def weights(cells: Sequence[Cell]) -> tuple[float, ...]:
    """Return what tables depend on besides host keys: of each endpoint its weight, or its part of all calls."""
    shares = [share_of(cell) for cell in cells]
    return tuple([c.endpoint.weight if share is None else share for c, share in zip(cells, shares, strict=True)])


def share_of(cell: Cell) -> float | None:
    """Return the part of all calls that localities have given an endpoint, if they have (`Weighed`)."""
    share: float | None = getattr(cell, "share", None)
    return share


def normalized(cells: Sequence[Cell]) -> list[float]:
    """Return the weights as parts of 1, or the parts themselves where localities have given them."""
    shares = [share for cell in cells if (share := share_of(cell)) is not None]
    if shares:
        return shares
    return parts_of([cell.endpoint.weight for cell in cells])


def parts_of(weights: Sequence[float], whole: float = 1.0) -> list[float]:
    """Return weights as parts of ``whole``, to the bit as Envoy does; their sum may be more than a float holds."""
    try:
        total = sum(weights)
    except OverflowError:  # of whole numbers, to which a float was to be added
        total = inf
    if total > sys.float_info.max:
        most = max(weights)
        weights = [weight / most for weight in weights]
        total = sum(weights)
    return [weight * whole / total for weight in weights]
