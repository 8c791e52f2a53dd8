"""Pickers over other weights than those of the registry: of endpoints in slow start, of localities with a share.

A picker reads weights from the endpoints of its cells, and a cell is shared by all that call the service. So where one
policy weighs otherwise, its pickers are made over stand-ins, and hand out the cells that these stand for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker
from svcmesh.core.endpoint import Endpoint


class Weighed:
    """A stand-in for a cell, of another weight. It is the cell in all else, its live counts included.

    Two for one cell are equal, so that a table that was made of one knows the other.

    Attributes:
        cell: which. endpoint: what pickers read of its endpoint. share: its part of all calls, where that is known; see
            `svcmesh.balance.affinity.normalized`.
    """

    __slots__ = ("cell", "endpoint", "share")

    def __init__(self, cell: Cell, weight: float, share: float | None = None) -> None:
        self.cell = cell
        self.endpoint = cell.endpoint if weight == cell.endpoint.weight else _OtherWeight(cell.endpoint, weight)
        self.share = share

    @property
    def started(self) -> int:
        """Attempts to the cell that ever started; picks read it, and so it is not left to `__getattr__`."""
        return self.cell.started

    @property
    def finished(self) -> int:
        """Attempts to the cell that ever ended."""
        return self.cell.finished

    def __eq__(self, other: object) -> bool:
        """Whether it stands for the same cell."""
        return isinstance(other, Weighed) and self.cell is other.cell

    def __hash__(self) -> int:
        return hash(self.cell)

    def __getattr__(self, name: str) -> Any:
        """Read everything else from the cell."""
        return getattr(self.cell, name)


class _OtherWeight:
    """What pickers read of an endpoint, with another weight; a whole endpoint would be checked anew, at each change."""

    __slots__ = ("address", "metadata", "weight")

    def __init__(self, endpoint: Endpoint, weight: float) -> None:
        self.address = endpoint.address
        self.metadata = endpoint.metadata
        self.weight = weight


def as_cells(stand_ins: Sequence[Weighed]) -> Sequence[Cell]:
    """Return stand-ins as what pickers take them for."""
    return cast("Sequence[Cell]", stand_ins)


class Unweighed(Picker):
    """A picker over stand-ins that returns the cells themselves."""

    def __init__(self, inner: Picker) -> None:
        super().__init__([_cell(stand_in) for stand_in in inner.cells])
        choose = inner.choose
        self._inner = inner

        def unweighed() -> Cell | None:
            found = choose()
            return None if found is None else _cell(found)

        self.choose = unweighed

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return the cell whose stand-in the picker chooses."""
        found = self._inner.choose_from(key, exclude)
        return None if found is None else _cell(found)


def _cell(stand_in: Any) -> Cell:
    cell: Cell = stand_in.cell
    return cell
