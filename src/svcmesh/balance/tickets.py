"""Drawing by weight as from a hat: each endpoint has as many tickets as its weight says.

A draw is then one step from a number to an endpoint, where columns of the alias method (`svcmesh.balance.alias`) are
four: among thousands of endpoints each step waits for memory. Shares are exact, since tickets are given for whole
weights alone, and only as long as all of them together are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, repeat

from svcmesh.balance.cell import Cell

MOST = 2**16
"""Tickets that there may be: with 8 bytes each 512 KiB, no more than many a processor has next to each of its cores. In
a longer list the step itself would wait for memory, as the four of the alias method do."""


def tickets(cells: Sequence[Cell]) -> Sequence[Cell] | None:
    """Return cells of positive weight, each as often as its weight says, without a common divisor.

    None: weights are not whole, or their tickets would be too many. Cells of equal weight have one each.
    """
    weights = [cell.endpoint.weight for cell in cells]
    if len(set(weights)) <= 1:
        return cells
    if max(weights) > 2**53 or any(weight % 1 for weight in weights):
        return None
    whole = [int(weight) for weight in weights]
    divisor = math.gcd(*whole)
    if sum(whole) // divisor > MOST:
        return None
    counts = [weight // divisor for weight in whole]
    return list(chain.from_iterable(map(repeat, cells, counts)))
