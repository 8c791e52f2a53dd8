"""Drawing by weight in constant time, whatever the number of endpoints: the alias method.

Lay the weights on ``n`` columns of equal height, each shared by at most two endpoints. A draw then needs one random
number: its whole part names the column, its fraction decides between the two. The shares are exact for any weights,
which a table of repeated endpoints is not.

Source: A. J. Walker, ACM TOMS 3(3), 1977; built in O(n) as M. D. Vose, IEEE TSE 17(9), 1991.
"""

from __future__ import annotations

from collections.abc import Sequence

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Rng

Column = tuple[float, Cell, Cell]
"""Below the bound (a number from the column's own to the next) the first cell is drawn, from it on the second."""


def columns(cells: Sequence[Cell]) -> list[Column]:
    """Return the columns for cells of positive weight.

    Weights are compared with the largest first, so that a sum beyond what a float holds does no harm.
    """
    most = max(cell.endpoint.weight for cell in cells)
    weights = [cell.endpoint.weight / most for cell in cells]
    scale = len(cells) / sum(weights)
    heights = [weight * scale for weight in weights]
    table: list[Column] = [(index + 1.0, cell, cell) for index, cell in enumerate(cells)]
    low = [index for index, height in enumerate(heights) if height < 1]
    high = [index for index, height in enumerate(heights) if height >= 1]
    while low and high:  # what is left at the end differs from 1 by rounding alone
        short, tall = low.pop(), high[-1]
        table[short] = (short + heights[short], cells[short], cells[tall])
        heights[tall] -= 1 - heights[short]
        if heights[tall] < 1:
            low.append(high.pop())
    return table


def draw(table: Sequence[Column], rng: Rng) -> Cell:
    """Return a cell, drawn by weight."""
    point = rng.random() * len(table)
    bound, first, second = table[int(point)]
    return first if point < bound else second
