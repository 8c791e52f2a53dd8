"""Round robin: each endpoint in its turn. For calls of equal cost to equal servers, and where order must be plain.

It starts at a random endpoint, because a thousand clients that start together would otherwise all call the first
server first. It knows no weights (`Random` and `LeastRequest` do), except that 0 takes no traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, cycle

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import Among, Draw, EmptyPicker, RedrawPicker, excluding, serving
from svcmesh.core.clock import Clock


@dataclass(frozen=True)
class RoundRobin(Configuration):
    """Each endpoint in its turn, from a random start; weights are ignored, but 0 takes no traffic.

    A call that may not go to the endpoint whose turn it is takes the next turn, so that retries stay in the rotation
    and do not all land on the neighbour of the broken endpoint.

    Cost: O(1), one call of a C iterator, which threads share without a lock.
    """

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        ring = serving(cells)
        if not ring:
            return EmptyPicker(cells)
        choose = rotation(ring, rng)
        return RedrawPicker(cells, choose, excluding(ring, choose, _turns()))


def rotation(cells: Sequence[Cell], rng: Rng) -> Draw:
    """Return a function that returns one cell after the other, for ever, from a random start.

    Threads: any. A step of `itertools.cycle` is one C call, and the GIL is not given up inside it.
    """
    start = int(rng.random() * len(cells))
    return cycle([*cells[start:], *cells[:start]]).__next__


def _turns() -> Among:
    """Return a rotation over lists that differ from call to call."""
    turn = count().__next__
    return lambda allowed: allowed[turn() % len(allowed)]
