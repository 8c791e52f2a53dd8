"""Pick first: one endpoint for all calls until it goes, then the next. For a leader and its standbys, or few calls.

It sticks: an endpoint that took over keeps the calls when the one before it returns (gRFC A62), for each change costs
new connections and cold caches. What is left to others here is to notice that it went: ejection and discovery take it
out of the list, and a retry goes to the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng, addresses
from svcmesh.balance.redraw import EmptyPicker, serving
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint

_turn = count(1)
"""Numbers endpoints in the order in which they became the current one. The highest number is the current one still,
also when one that was current before it is back."""


@dataclass(frozen=True)
class PickFirst(Configuration):
    """The first endpoint of the list, for as long as it is there.

    Args:
        shuffle_address_list: draw an order instead, so that clients spread over the endpoints; default False.

    Raises:
        ConfigError: it is neither True nor False.

    Cost: O(1).
    """

    shuffle_address_list: bool = False

    def __post_init__(self) -> None:
        """Check the field."""
        checks.flag("shuffle_address_list", self.shuffle_address_list)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        order = serving(cells)
        if not order:
            return EmptyPicker(cells)
        if self.shuffle_address_list:
            order.sort(key=lambda _: rng.random())
        current = max(order, key=lambda cell: cell.kept.get(self, 0))  # of equals the first: nobody was used yet
        current.kept[self] = next(_turn)
        return _FirstPicker(cells, [current, *(cell for cell in order if cell is not current)])


class _FirstPicker(Picker):
    """The head of a list."""

    def __init__(self, cells: Sequence[Cell], order: Sequence[Cell]) -> None:
        super().__init__(cells)
        self._order = order
        first = order[0]
        self.choose = lambda: first

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:  # noqa: ARG002 - no affinity
        """Return the first that is not excluded; the key is ignored."""
        excluded = addresses(exclude)
        return next((cell for cell in self._order if cell.endpoint.address not in excluded), None)
