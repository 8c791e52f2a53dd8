"""Excluding endpoints: draw again until the draw is allowed, and only then look through the whole list.

A retry excludes the one or two endpoints that it has tried. With many endpoints another draw almost always meets a
new one, whatever their number; with few of them, or with most of them excluded, the list is filtered and so the
answer is exact: None means that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, addresses
from svcmesh.core.endpoint import Endpoint

DRAWS = 8  # even with half of the endpoints excluded, 255 of 256 calls stop here

Draw = Callable[[], Cell]
"""Return a cell that takes traffic."""

Among = Callable[[Sequence[Cell]], Cell]
"""Return one of a few cells, in the spirit of the picker; it may take time in proportion to their number."""

ChooseFrom = Callable[[Collection[Endpoint]], Cell | None]
"""Return a cell whose endpoint is not among these, or None when there is none."""


class RedrawPicker(Picker):
    """A picker that ignores the key and excludes by drawing again.

    Args:
        cells: all endpoints, those of weight 0 included: calls to them may still have to be counted.
        choose: how to draw one that takes traffic.
        choose_from: the same with something excluded, see `excluding`.
    """

    def __init__(self, cells: Sequence[Cell], choose: Draw, choose_from: ChooseFrom) -> None:
        super().__init__(cells)
        self.choose = choose
        self._draw = choose
        self._choose_from = choose_from

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:  # noqa: ARG002 - no affinity
        """Return a cell whose endpoint is not excluded, or None when there is none; the key is ignored."""
        return self._choose_from(exclude)

    def pick(
        self,
        key: int | None = None,  # noqa: ARG002 - no affinity
        exclude: Collection[Endpoint] = (),
    ) -> Endpoint | None:
        """Return an endpoint that is not excluded, or None when there is none; the key is ignored."""
        if exclude:
            return self.pick_from(exclude)
        draw = self._draw  # reading it first is faster than a call through the attribute, here and in subclasses
        return draw().endpoint

    def pick_from(self, exclude: Collection[Endpoint]) -> Endpoint | None:
        """Return an endpoint that is not excluded, or None when there is none."""
        cell = self._choose_from(exclude)
        return None if cell is None else cell.endpoint


def excluding(serving: Sequence[Cell], choose: Draw, among: Among) -> ChooseFrom:
    """Return a function that chooses a cell whose endpoint is not excluded.

    Args:
        serving: the cells that ``choose`` draws from.
        choose: how to draw one of them.
        among: how to draw one of what is left of them.
    """

    def choose_from(exclude: Collection[Endpoint]) -> Cell | None:
        excluded = addresses(exclude)
        for _ in range(DRAWS):
            cell = choose()
            if cell.endpoint.address not in excluded:
                return cell
        allowed = [cell for cell in serving if cell.endpoint.address not in excluded]
        return among(allowed) if allowed else None

    return choose_from


class EmptyPicker(Picker):
    """What a picker is when nothing takes traffic: it still counts the calls to endpoints that did."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__(cells)
        self.choose = _nothing

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:  # noqa: ARG002 - whatever they are
        """Return None."""
        return None


def _nothing() -> None:
    """Return None."""


def serving(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that take traffic: a registry's weight of 0 means none."""
    return [cell for cell in cells if cell.endpoint.weight > 0]


def equal_weights(cells: Sequence[Cell]) -> bool:
    """Return whether all weights are the same, so that the cheaper arithmetic will do."""
    return len({cell.endpoint.weight for cell in cells}) <= 1
