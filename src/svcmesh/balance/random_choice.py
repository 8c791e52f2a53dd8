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
from svcmesh.balance.redraw import ChooseFrom, Draw, EmptyPicker, Pick, RedrawPicker, equal_weights, excluding, serving
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
        pick = _uniform_pick(drawn, rng, choose_from) if equal_weights(drawn) else None
        return RedrawPicker(cells, choose, choose_from, pick)


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


def _uniform_pick(cells: Sequence[Cell], rng: Rng, choose_from: ChooseFrom) -> Pick:
    """Return `Picker.pick` with the draw written out, and one step from the draw to the endpoint instead of two."""
    random, size = rng.random, len(cells)
    endpoints = [cell.endpoint for cell in cells]

    def pick(key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:  # noqa: ARG001 - no affinity
        if exclude:
            cell = choose_from(exclude)
            return None if cell is None else cell.endpoint
        return endpoints[(random() * size).__trunc__()]

    return pick
