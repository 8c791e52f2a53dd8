"""What pickers with affinity share: a key decides, and what is excluded sends it along a path that is its own.

The same key must meet the same endpoint in every process, and so must its retries: who comes after the owner depends
on the key and on the set of endpoints, on nothing else. A call without a key gets a random one (gRFC A42).

Endpoints are placed by their host key: the metadata ``hash_key`` if it is a text that is not empty, else the address
(Envoy, thread_aware_lb_impl.h; gRFC A61 and A76). With it an instance that moves to another address keeps its keys.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf

from svcmesh.balance.bounded_load import Bound
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, Rng, addresses
from svcmesh.core.endpoint import Endpoint

Path = Callable[[int], Iterable[Cell]]
"""Return the cells in the order in which a key may use them, its owner first; ends after the last one."""


class AffinityPicker(Picker):
    """A picker whose choice goes by the key.

    Args:
        cells: all of them, those of weight 0 included.
        path: returns the owner of a key, and then the cells that come after it.
        bound: how much more than its share an owner may have in flight; None for any amount.
    """

    def __init__(self, cells: Sequence[Cell], path: Path, rng: Rng, bound: Bound | None) -> None:
        super().__init__(cells)
        self._path = path
        self._bound = bound
        self._random = rng.random
        self.choose = self._choose

    def _choose(self) -> Cell | None:
        return self.choose_from(None, ())

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
            return self._bound.within(self._path(key), key, excluded)
        owner = self.pick(key)  # one look-up: with a key and no bound it does not come back here
        if owner is not None and owner.address not in excluded:
            return self._by_address[owner.address]
        return next((cell for cell in self._path(key) if cell.endpoint.address not in excluded), None)


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
