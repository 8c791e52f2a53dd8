"""Round robin: each endpoint in its turn. For calls of equal cost to equal servers, and where order must be plain.

It starts at a random endpoint, because a thousand clients that start together would otherwise all call the first
server first. It knows no weights (`Random` and `LeastRequest` do), except that 0 takes no traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count, cycle
from typing import TypeVar

from svcmesh.balance.blocks import MANY, blocks
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
    memory longer than the rest takes. That of `pick` is made at the first one: a mesh, which makes a picker at each
    change, only chooses.
    """

    _turn: Callable[[], Endpoint]

    def __init__(
        self, cells: Sequence[Cell], steps: Sequence[Cell], choose: Draw, choose_from: ChooseFrom, rng: Rng
    ) -> None:
        super().__init__(cells, choose, choose_from)
        self._steps = steps
        self._rng = rng
        self._begun: dict[str, Callable[[], Endpoint]] = {}

    def _begin(self) -> Callable[[], Endpoint]:
        """Return the rotation that `pick` goes by: of threads that make one at the same time, all take the same."""
        if not self._begun:
            self._begun.setdefault("turn", rotation([cell.endpoint for cell in self._steps], self._rng))
        self._turn = turn = self._begun["turn"]
        return turn

    def pick(
        self,
        key: int | None = None,  # noqa: ARG002 - no affinity
        exclude: Collection[Endpoint] = (),
    ) -> Endpoint | None:
        """Return the endpoint whose turn it is, or the next one that is not excluded; the key is ignored."""
        if exclude:
            return self.pick_from(exclude)
        try:
            turn = self._turn
        except AttributeError:
            turn = self._begin()
        return turn()

    def pick_from(self, exclude: Collection[Endpoint]) -> Endpoint | None:
        """Return the next endpoint that is not excluded, or None when there is none."""
        excluded, turn = addresses(exclude), self._begin()
        for _ in range(DRAWS):
            endpoint = turn()
            if endpoint.address not in excluded:
                return endpoint
        return super().pick_from(exclude)


def rotation(cells: Sequence[T], rng: Rng) -> Callable[[], T]:
    """Return a function that returns one of them after the other, for ever, from a random start.

    Threads: any. A step is one C call, and the GIL is not given up inside it. With one exception: where there are many
    (`svcmesh.balance.blocks`), CPython 3.11 may collect garbage as it begins a block, and should a finalizer then give
    way to a thread that begins the next one, that block is left out and never freed.
    """
    start = int(rng.random() * len(cells))
    turns = [*cells[start:], *cells[:start]]
    if len(turns) < MANY:
        return cycle(turns).__next__
    return chain.from_iterable(map(turns.__getitem__, cycle(blocks(len(turns))))).__next__


def _turns() -> Among:
    """Return a rotation over lists that differ from call to call."""
    turn = count().__next__
    return lambda allowed: allowed[turn() % len(allowed)]
