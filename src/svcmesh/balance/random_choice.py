"""Random choice by weight: every draw fresh, no state shared, nothing to tune. The yardstick for everything else.

Its shares are even only over many calls, and it sends work to an endpoint that is already busy. It is right where
very many clients make few calls each; elsewhere `LeastRequest` costs no more and does better.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from svcmesh.balance.alias import columns, draw
from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import ChooseFrom, Draw, EmptyPicker, RedrawPicker, equal_weights, excluding, serving
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint


@dataclass(frozen=True)
class Random(Configuration):
    """A random endpoint, by weight.

    Cost: O(1) and one draw, with equal weights and with unequal ones (`svcmesh.balance.alias`).
    """

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        drawn = serving(cells)
        if not drawn:
            return EmptyPicker(cells)
        choose = random_choice(drawn, rng)
        choose_from = excluding(drawn, choose, lambda allowed: draw(columns(allowed), rng))
        if equal_weights(drawn):
            return _UniformPicker(cells, drawn, rng, choose, choose_from)
        return RedrawPicker(cells, choose, choose_from)


def random_choice(cells: Sequence[Cell], rng: Rng) -> Draw:
    """Return a function that returns a random one of at least one cell, by weight."""
    random, size = rng.random, len(cells)
    if equal_weights(cells):
        return lambda: cells[(random() * size).__trunc__()]  # int() does the same, but must look up how
    table = columns(cells)

    def weighted() -> Cell:
        point = random() * size
        bound, first, second = table[point.__trunc__()]
        return first if point < bound else second

    return weighted


class _UniformPicker(RedrawPicker):
    """Random choice among equals, with the draw written out and one step from it to the endpoint instead of two."""

    def __init__(
        self, cells: Sequence[Cell], drawn: Sequence[Cell], rng: Rng, choose: Draw, choose_from: ChooseFrom
    ) -> None:
        super().__init__(cells, choose, choose_from)
        self._endpoints = [cell.endpoint for cell in drawn]
        self._size = len(drawn)
        self._random = rng.random

    def pick(
        self,
        key: int | None = None,  # noqa: ARG002 - no affinity
        exclude: Collection[Endpoint] = (),
    ) -> Endpoint | None:
        """Return an endpoint that is not excluded, or None when there is none; the key is ignored."""
        if exclude:
            return self.pick_from(exclude)
        random = self._random
        return self._endpoints[(random() * self._size).__trunc__()]
