"""What all pickers share: one way to build them, one way to ask them.

A configuration (`LoadBalancer`) is a frozen value that can be compared and stored in a policy. A `Picker` is made
from it for one immutable set of endpoints. Users call `pick`, which speaks of endpoints; the engine calls `choose`,
which speaks of cells and so saves it a look-up on each call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

from svcmesh.balance.cell import Cell
from svcmesh.balance.load_report import LoadReport
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint


class Rng(Protocol):
    """A source of chance; `random.Random` is one."""

    def random(self) -> float:
        """Return a float from 0 (included) to 1 (excluded)."""


Choose = Callable[[], Cell | None]


class Picker:
    """Choose among a fixed set of endpoints; never blocks, and takes no lock.

    Subclasses set `choose` (the success path: no key, nothing to exclude) and implement `choose_from` (all else).

    `started` and `finished` find the counts of an endpoint by its address. With thousands of endpoints that look-up
    waits for memory, for longer than all the rest takes. So `Configuration.picker` also puts the cell into the endpoint
    object, where it serves until another picker is made of the same object.

    Threads: any.
    """

    choose: Choose

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = tuple(cells)
        self._owner = cells[0].owner if cells else None

    @cached_property
    def _by_address(self) -> dict[str, Cell]:
        """The cells by address, made at first need: a mesh counts on cells, and asks only for sessions."""
        return {cell.endpoint.address: cell for cell in self.cells}

    def at(self, address: str) -> Cell | None:
        """Return the cell of this address, if it takes traffic."""
        cell = self._by_address.get(address)
        return cell if cell is not None and cell.endpoint.weight > 0 else None

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return a cell for this key whose endpoint is not excluded, or None when there is none."""
        raise NotImplementedError

    def pick(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return an endpoint, or None when there is none to choose from.

        Args:
            key: hash of what the call is about, for pickers with affinity; others ignore it.
            exclude: endpoints not to return, compared by address.
        """
        cell = self.choose() if key is None and not exclude else self.choose_from(key, exclude)
        return None if cell is None else cell.endpoint

    def started(self, endpoint: Endpoint) -> None:
        """Count an attempt to ``endpoint`` as in flight; unknown endpoints are ignored."""
        try:  # this and `finished` are measured, and so written out
            cell = endpoint._cell  # noqa: SLF001 - put there by us
            if cell.owner is self._owner:
                cell.started += 1
                return
        except AttributeError:
            pass  # another object for the same address
        cell = self._by_address.get(endpoint.address)
        if cell is not None:
            cell.started += 1

    def finished(self, endpoint: Endpoint, seconds: float, failed: bool) -> None:  # noqa: ARG002 - others use them
        """Count an attempt to ``endpoint`` as ended after ``seconds``; unknown endpoints are ignored."""
        try:
            cell = endpoint._cell  # noqa: SLF001 - as above
            if cell.owner is self._owner:
                cell.finished += 1
                return
        except AttributeError:
            pass
        cell = self._by_address.get(endpoint.address)
        if cell is not None:
            cell.finished += 1


def addresses(exclude: Collection[Endpoint]) -> set[str]:
    """Return the addresses of endpoints that are not to be chosen.

    Raises:
        TypeError: something else is among them, such as an address.
    """
    try:
        return {endpoint.address for endpoint in exclude}
    except AttributeError:
        raise TypeError(f"exclude must hold endpoints, as pick() returns them, not {exclude!r}") from None


class LoadBalancer(Protocol):
    """A frozen configuration of a way to choose.

    One that is also `Learning` is told how calls end; one that is `Reported` what servers report of their load.
    """

    def picker(self, endpoints: Sequence[Endpoint], *, rng: Rng | None = None, clock: Clock | None = None) -> Picker:
        """Return a picker over ``endpoints`` with counts of its own."""

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""


@runtime_checkable
class Learning(Protocol):
    """A configuration whose pickers go by how long calls take; calls under others pay nothing for it."""

    def learn(self, cell: Cell, seconds: float, now: float, failed: bool | None) -> None:
        """Take in the end of an attempt to ``cell``, whether a picker over it is in force or not.

        Args:
            seconds: how long it took, until its answer began to arrive where that is a stream. now: the instant.
            failed: whether it failed. None: nobody knows how it would have ended, but it took at least so long.
        """


@runtime_checkable
class Reported(Protocol):
    """A configuration whose pickers go by what servers report of their load; answers to others are not looked at.

    If it has a method ``refused(cell)``, that is told of connections that an endpoint refuses: whoever reports next is
    another process.
    """

    def reported(self, cell: Cell, report: LoadReport, now: float) -> None:
        """Take in what the server of ``cell`` reports, whether a picker over it is in force or not."""
