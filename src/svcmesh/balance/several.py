"""Pickers made of pickers: one for each priority, one for each locality, and a draw between them.

A call that finds nobody in the part it drew, because all are excluded or none admits calls, goes on to the others in
their order: an endpoint of the next priority that was not tried yet is better than one that has just failed.

Where all calls go to one part, choosing is choosing from that, with nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Choose, Picker, Rng
from svcmesh.balance.redraw import EmptyPicker
from svcmesh.core.endpoint import Endpoint

SLOTS = 100


class Several(Picker):
    """A picker that draws a part for each call.

    Args:
        parts: pickers over different endpoints, in the order in which they are asked when one has nobody.
        draw: returns the number of a part.
    """

    def __init__(self, parts: Sequence[Picker], draw: Callable[[], int]) -> None:
        super().__init__([cell for part in parts for cell in part.cells])
        self.parts = tuple(parts)
        self._draw = draw
        self.choose = _drawing([part.choose for part in parts], draw)

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return a cell of the part that is drawn or, where that has none left, of the first one that has."""
        return self.from_part(self._draw(), key, exclude)

    def from_part(self, number: int, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return a cell of this part or, where that has none left, of the first one that has."""
        cell = self.parts[number].choose_from(key, exclude)
        others = (part for other, part in enumerate(self.parts) if other != number)
        while cell is None:
            part = next(others, None)
            if part is None:
                return None
            cell = part.choose_from(key, exclude)
        return cell


class Slotted(Several):
    """A picker whose parts have whole percents of the calls; a key has its own percent, as in Envoy.

    Args:
        parts: as in `Several`.
        slots: a hundred numbers of parts, in the order of keys; None: such a call finds nobody.
    """

    def __init__(self, parts: Sequence[Picker], slots: Sequence[int | None], rng: Rng) -> None:
        self._slots = tuple(slots)
        random = rng.random
        super().__init__(parts, lambda: int(random() * SLOTS))
        nobody = EmptyPicker(())
        chooses = [(nobody if slot is None else parts[slot]).choose for slot in slots]
        self.choose = _drawing(chooses, self._draw) if len(set(slots)) > 1 else chooses[0]

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return a cell of the part that the key belongs to, or of the first one that has one left."""
        return self.choose_by(self._slots, key, exclude)

    def choose_by(self, slots: Sequence[int | None], key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Do the same with other slots."""
        slot = slots[self._draw() if key is None else key % SLOTS]
        return None if slot is None else self.from_part(slot, key, exclude)


def _drawing(chooses: Sequence[Choose], draw: Callable[[], int]) -> Choose:
    """Return a function that draws one of these, and chooses by it."""

    def choose() -> Cell | None:
        return chooses[draw()]()

    return choose
