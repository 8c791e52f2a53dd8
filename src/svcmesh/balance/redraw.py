"""Excluding endpoints: draw again until the draw is allowed, and only then look through the whole list.

A retry excludes the one or two endpoints that it has tried. With many endpoints another draw almost always meets a
new one, whatever their number; with few of them, or with most of them excluded, the list is filtered and so the
answer is exact: None means that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Choose, Picker
from svcmesh.core.endpoint import Endpoint

DRAWS = 8  # even with half of the endpoints excluded, 255 of 256 calls stop here

Among = Callable[[Sequence[Cell]], Cell | None]


class Pick(Protocol):
    """What `Picker.pick` is, when it is a function of the instance."""

    def __call__(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return an endpoint, or None when there is none to choose from."""


class RedrawPicker(Picker):
    """A picker that ignores the key and excludes by drawing again.

    Args:
        cells: all endpoints, those of weight 0 included: calls to them may still have to be counted.
        choose: how to draw one that takes traffic.
        choose_from: the same with something excluded, see `excluding`.
        pick: what `pick` does, where ``choose`` written out in it saves a call that counts; None for the plain way.
    """

    def __init__(
        self, cells: Sequence[Cell], choose: Choose, choose_from: ChooseFrom, pick: Pick | None = None
    ) -> None:
        super().__init__(cells)
        self.choose = choose
        self._choose_from = choose_from
        self.pick = pick or _pick(choose, choose_from)  # type: ignore[method-assign] # a function is faster

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:  # noqa: ARG002 - no affinity
        """Return a cell whose endpoint is not excluded, or None when there is none; the key is ignored."""
        return self._choose_from(exclude)


ChooseFrom = Callable[[Collection[Endpoint]], Cell | None]


def excluding(serving: Sequence[Cell], choose: Choose, among: Among) -> ChooseFrom:
    """Return a function that chooses a cell whose endpoint is not excluded.

    Args:
        serving: the cells that ``choose`` draws from.
        choose: how to draw one of them.
        among: how to draw one of a few of them, in the same spirit; it may take time in proportion to their number.
    """

    def choose_from(exclude: Collection[Endpoint]) -> Cell | None:
        addresses = {endpoint.address for endpoint in exclude}
        for _ in range(DRAWS):
            cell = choose()
            if cell is None or cell.endpoint.address not in addresses:
                return cell
        return among([cell for cell in serving if cell.endpoint.address not in addresses])

    return choose_from


def _pick(choose: Choose, choose_from: ChooseFrom) -> Pick:
    def pick(key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:  # noqa: ARG001 - no affinity
        cell = choose_from(exclude) if exclude else choose()
        return None if cell is None else cell.endpoint

    return pick


def serving(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that take traffic: a registry's weight of 0 means none."""
    return [cell for cell in cells if cell.endpoint.weight > 0]


def equal_weights(cells: Sequence[Cell]) -> bool:
    """Return whether all weights are the same, so that the cheaper arithmetic will do."""
    return len({cell.endpoint.weight for cell in cells}) <= 1


def nothing() -> None:
    """Choose nothing: what is drawn where nothing takes traffic."""
