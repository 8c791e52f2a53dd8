"""Round robin: each endpoint in its turn. For calls of equal cost to equal servers, and where order must be plain.

It starts at a random endpoint, because a thousand clients that start together would otherwise all call the first
server first. It knows no weights (`Random` and `LeastRequest` do), except that 0 takes no traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from typing import TypeVar

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng, addresses
from svcmesh.balance.redraw import DRAWS, Among, ChooseFrom, Draw, EmptyPicker, RedrawPicker, excluding, serving
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint

T = TypeVar("T")


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
        return RotatingPicker(cells, ring, choose, excluding(ring, choose, _turns()), rng)


class RotatingPicker(RedrawPicker):
    """A picker whose draws take turns, with `pick` written out: a rotation of endpoints, one step to each.

    `pick` and `choose` each have a rotation. With thousands of endpoints the step from a cell to its endpoint waits for
    memory longer than the rest takes.
    """

    def __init__(
        self, cells: Sequence[Cell], steps: Sequence[Cell], choose: Draw, choose_from: ChooseFrom, rng: Rng
    ) -> None:
        super().__init__(cells, choose, choose_from)
        self._turn = rotation([cell.endpoint for cell in steps], rng)

    def pick(
        self,
        key: int | None = None,  # noqa: ARG002 - no affinity
        exclude: Collection[Endpoint] = (),
    ) -> Endpoint | None:
        """Return the endpoint whose turn it is, or the next one that is not excluded; the key is ignored."""
        if exclude:
            return self.pick_from(exclude)
        turn = self._turn
        return turn()

    def pick_from(self, exclude: Collection[Endpoint]) -> Endpoint | None:
        """Return the next endpoint that is not excluded, or None when there is none."""
        excluded = addresses(exclude)
        for _ in range(DRAWS):
            endpoint = self._turn()
            if endpoint.address not in excluded:
                return endpoint
        return super().pick_from(exclude)


def rotation(cells: Sequence[T], rng: Rng) -> Callable[[], T]:
    """Return a function that returns one of them after the other, for ever, from a random start.

    Threads: any. A step of `itertools.cycle` is one C call, and the GIL is not given up inside it.
    """
    start = int(rng.random() * len(cells))
    return cycle([*cells[start:], *cells[:start]]).__next__


def _turns() -> Among:
    """Return a rotation over lists that differ from call to call."""
    turn = count().__next__
    return lambda allowed: allowed[turn() % len(allowed)]
