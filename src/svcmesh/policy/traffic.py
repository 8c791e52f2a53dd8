"""What breakers and ejection know of successes: a total that somebody else counts, and no single call.

Successes must cost the success path nothing, so nobody reports them. Whoever judges a failure reads their total.
"""

from __future__ import annotations

import math
from typing import Protocol


class Traffic(Protocol):
    """The successes of an endpoint, or of a whole service."""

    @property
    def succeeded(self) -> int:
        """Successes ever."""

    def succeeded_at(self, instant: float) -> int:
        """Return `succeeded` as it was at ``instant``."""


class Run:
    """Failures in a row.

    A run is broken when the total of successes has passed the highest value seen in the run: below it, the total may be
    short for a moment of calls whose end is just being counted, and catching up is no success.

    Attributes:
        length: how many they are. began: instant of the first of them.

    Threads: its owner holds a lock.
    """

    __slots__ = ("_mark", "began", "length")

    def __init__(self) -> None:
        self.length = 0
        self.began = -math.inf
        self._mark = 0

    def count(self, succeeded: int, now: float) -> None:
        """Count a failure at the instant ``now``, when the total of successes is ``succeeded``."""
        if self.length == 0 or succeeded > self._mark:
            self.length, self.began, self._mark = 0, now, succeeded
        self.length += 1

    def end(self) -> None:
        """Break the run: the next failure is the first of another."""
        self.length = 0
