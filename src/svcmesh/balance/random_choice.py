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
from svcmesh.balance.redraw import ChooseFrom, Draw, EmptyPicker, RedrawPicker, excluding, serving
from svcmesh.balance.tickets import tickets
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint


@dataclass(frozen=True)
class Random(Configuration):
    """A random endpoint, by weight.

    Cost: O(1) and one draw, with equal weights and with unequal ones (`svcmesh.balance.tickets`; where these would be
    too many, `svcmesh.balance.alias`).
    """

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        drawn = serving(cells)
        if not drawn:
            return EmptyPicker(cells)
        hat = tickets(drawn)
        choose = _by_column(drawn, rng) if hat is None else _by_ticket(hat, rng)
        choose_from = excluding(drawn, choose, lambda allowed: draw(columns(allowed), rng))
        if hat is None:
            return RedrawPicker(cells, choose, choose_from)
        return _TicketPicker(cells, hat, rng, choose, choose_from)


def random_choice(cells: Sequence[Cell], rng: Rng) -> Draw:
    """Return a function that returns a random one of at least one cell, by weight."""
    hat = tickets(cells)
    return _by_column(cells, rng) if hat is None else _by_ticket(hat, rng)


def _by_ticket(hat: Sequence[Cell], rng: Rng) -> Draw:
    random, size = rng.random, len(hat)
    return lambda: hat[(random() * size).__trunc__()]  # int() does the same, but must look up how


def _by_column(cells: Sequence[Cell], rng: Rng) -> Draw:
    random, size, table = rng.random, len(cells), columns(cells)

    def choose() -> Cell:
        point = random() * size
        bound, first, second = table[point.__trunc__()]
        return first if point < bound else second

    return choose


class _TicketPicker(RedrawPicker):
    """Random choice among tickets, with the draw written out and one step from it to the endpoint instead of two."""

    def __init__(
        self, cells: Sequence[Cell], hat: Sequence[Cell], rng: Rng, choose: Draw, choose_from: ChooseFrom
    ) -> None:
        super().__init__(cells, choose, choose_from)
        self._endpoints = [cell.endpoint for cell in hat]
        self._size = len(hat)
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
