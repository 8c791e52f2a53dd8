"""Who of several is least loaded: the comparison behind `LeastRequest`, apart from how candidates are found.

With equal weights the load is the number of calls in flight. With unequal ones it is
``(active + 1) ** bias / weight``, Envoy's weight turned round, except that idle cells are equal: nothing is known
against any of them, and whoever found the candidates has respected their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

from svcmesh.balance.alias import columns, draw
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Rng

Load = Callable[[Cell], float]


def load_of(bias: float, *, equal: bool) -> Load:
    """Return how to weigh a cell: by calls in flight alone, or with its weight too, as a logarithm.

    The logarithm keeps the order, and no power of a large bias can overflow.
    """

    def active(cell: Cell) -> float:
        return cell.started - cell.finished

    def weighted(cell: Cell) -> float:
        return bias * log(max(0, cell.started - cell.finished) + 1) - log(cell.endpoint.weight)

    return active if equal else weighted


def idle(cells: Sequence[Cell]) -> bool:
    """Return whether none of them has a call in flight."""
    return not any(cell.started - cell.finished for cell in cells)


def least_of(candidates: Sequence[Cell], load: Load) -> Cell:
    """Return the least loaded; where they are equal, or all idle, the first."""
    return candidates[0] if idle(candidates) else min(candidates, key=load)


def least_of_all(cells: Sequence[Cell], load: Load, rng: Rng) -> Cell:
    """Return the least loaded; one of equals at random, and one by weight when all are idle."""
    if idle(cells):
        return draw(columns(cells), rng)
    loads = [load(cell) for cell in cells]
    lowest = min(loads)
    best = [cell for cell, found in zip(cells, loads, strict=True) if found == lowest]
    return best[int(rng.random() * len(best))]


def by_weight(cells: Sequence[Cell], how_many: int, rng: Rng) -> list[Cell]:
    """Return different cells drawn by weight, first drawn first; O(n).

    Source: Efraimidis and Spirakis, Information Processing Letters 97(5), 2006.
    """

    def key(cell: Cell) -> float:
        return log(1 - rng.random()) / cell.endpoint.weight  # 1 - x, since x may be 0 but never 1

    return sorted(cells, key=key, reverse=True)[:how_many]
