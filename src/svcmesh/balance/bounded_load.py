"""Bounded load: a popular key may not bring its owner more than its share of what is in flight.

Affinity alone lets one hot key fill one endpoint while the others idle. With a bound of, say, 150 % a call goes past
an owner that has more in flight than 1.5 times its share, to the next one in an order that is the key's own: caches
stay warm where overflow goes, too.

Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016; Envoy,
thread_aware_lb_impl.cc, whose arithmetic and shuffle (std::mt19937 seeded with the low half of the hash) this is.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import ceil

from svcmesh.balance.cell import Cell
from svcmesh.core import checks

_STATE = 624
_LOW = 0xFFFFFFFF


def check(factor: int | None) -> None:
    """Check ``hash_balance_factor``: None and 0 for no bound, else at least 100 (percent of an even share)."""
    if factor is not None and (factor != 0 or isinstance(factor, bool)):
        checks.whole("hash_balance_factor", factor, 100)


class Bound:
    """How much of what is in flight each endpoint may have.

    Args:
        cells: who takes traffic, in the order of the list, which is what Envoy shuffles. shares: their parts of 1, in
            the same order. factor: percent of an even share.

    Cost: O(1) while the owner has at most one call in flight, O(n) otherwise, which is the price of an exact sum.
    """

    def __init__(self, cells: Sequence[Cell], shares: Sequence[float], factor: int) -> None:
        self._cells = cells
        self._share = {id(cell): share for cell, share in zip(cells, shares, strict=True)}
        self._factor = factor

    def within(self, path: Iterable[Cell], key: int, excluded: Collection[str]) -> Cell | None:
        """Return the first cell of ``path`` if it has room, else the first one that has, else the least loaded."""
        owner = next((cell for cell in path if cell.endpoint.address not in excluded), None)
        if owner is None or owner.started - owner.finished <= 1:  # one slot is everybody's
            return owner
        active = sum(cell.started - cell.finished for cell in self._cells)
        total = ((active + 1) * self._factor + 99) // 100
        if self._overload(owner, total) <= 1:
            return owner
        best, lowest = owner, self._overload(owner, total)
        for index in shuffled(len(self._cells), key):
            cell = self._cells[index]
            if cell.endpoint.address in excluded:
                continue
            overload = self._overload(cell, total)
            if overload <= 1:
                return cell
            if overload < lowest:
                best, lowest = cell, overload
        return best

    def _overload(self, cell: Cell, total: int) -> float:
        return (cell.started - cell.finished) / max(ceil(total * self._share[id(cell)]), 1)


def shuffled(size: int, key: int) -> Iterator[int]:
    """Yield the numbers below ``size`` in the order that Envoy gives them for ``key``, one at a time.

    Its order comes from C++'s std::mt19937, the generator behind Python's `random`, which is only seeded otherwise.
    """
    draw = _twister(key & _LOW).getrandbits
    order = list(range(size))
    for place in range(size):
        left = size - place
        scale = 2**32 // left
        found = draw(32) // scale
        while found >= left:
            found = draw(32) // scale
        other = place + found
        order[place], order[other] = order[other], order[place]
        yield order[place]


def _twister(seed: int) -> random.Random:
    state = [seed]
    for index in range(1, _STATE):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + index) & _LOW)
    twister = random.Random()
    twister.setstate((3, (*state, _STATE), None))
    return twister
