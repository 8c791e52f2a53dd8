"""What all configurations share: a picker without a mesh, over counts, a clock and chance of its own."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, Rng
from svcmesh.core.clock import SYSTEM, Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot


class Configuration(ABC):
    """Base of the frozen configurations; a subclass says which picker it makes.

    Attributes:
        affinity: its pickers go by the key.
        slow: building one takes so long that no call should wait for it; its pickers must have `choose_from` walk the
            same path whatever is excluded.
    """

    affinity: ClassVar[bool] = False
    slow: ClassVar[bool] = False

    def picker(self, endpoints: Sequence[Endpoint], *, rng: Rng | None = None, clock: Clock | None = None) -> Picker:
        """Return a picker over ``endpoints`` with counts of its own.

        Args:
            endpoints: may be empty, then nothing can be picked. An endpoint of weight 0 takes no traffic.
            rng: used only through ``.random()``; None for one with a seed of its own.
            clock: for pickers that measure time; None for the system's.

        Raises:
            ConfigError: an address is listed twice, something is no endpoint or no list of them, or ``rng`` has no
                ``random``.
        """
        if isinstance(endpoints, str | bytes) or not isinstance(endpoints, Iterable):
            raise ConfigError(f"endpoints must be a list of Endpoint objects, not {endpoints!r}")
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise ConfigError(f"rng must have a method random(), as random.Random has, not {rng!r}")
        owner = object()
        cells = [Cell(endpoint, owner) for endpoint in Snapshot(tuple(endpoints)).endpoints]
        for cell in cells:
            object.__setattr__(cell.endpoint, "_cell", cell)  # see `Picker.started`
        return self.over(cells, random.Random() if rng is None else rng, SYSTEM if clock is None else clock)

    @abstractmethod
    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""


def check_balancer(field: str, given: object) -> None:
    """Check that something is a configuration.

    Raises:
        ConfigError: it is not; a class is none either.
    """
    if isinstance(given, type) or not callable(getattr(given, "over", None)):
        raise ConfigError(f"{field} must be a configuration such as LeastRequest(), not {given!r}")
