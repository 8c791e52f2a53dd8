"""When a registry that failed is asked again: soon, and never by all of its clients at once.

A registry that is restarted loses thousands of clients in one moment, and whoever was served late by it has time.

- Who was never answered asks again soon, and then less and less often: from nothing to a ceiling that doubles.
- Who was answered once has endpoints, and begins where that ends: by a wait of any length up to the cap. So each
  client has a moment of its own, whenever the registry is back.
- Later waits are about as long as the cap, so that nobody leaves that moment. Waits of any length, again and again,
  are half as long: more than one in twenty of a thousand clients would then meet within a tenth of a second.
- Who is told when to come back (``Retry-After``, a token that was refused) is told the same as all the others. So he
  takes a moment of his own after that, and no longer one for each failure. That is within the cap, too, unless the
  registry itself asks for more than a second: nobody is to come earlier than he was told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from svcmesh.balance.picker import Rng
from svcmesh.core.errors import SvcmeshError
from svcmesh.policy.backoff import FullJitter

_DRAWN = 0.02  # part of a late wait that is drawn: with more of it the early come among the late
_AFTER_TOLD = 0.8  # part of the cap over which those spread who were told the same


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchBackoff:
    """Waits of at most ``cap`` seconds; the first one of a client that was never answered is at most ``base``.

    Only who is told to wait for more than 0.2 times ``cap`` may wait longer: for what he is told, ``cap`` at most, and
    up to 0.8 times ``cap`` more.
    """

    base: float
    cap: float

    def seconds(self, failures: int, rng: Rng, *, answered: bool, told: float | None = None) -> float:
        """Draw the wait in seconds.

        Args:
            failures: how many there were in a row, from 1. rng: what is drawn from.
            answered: whether the registry has ever answered this client.
            told: seconds that it was told to wait, see `told_wait`; of which ``cap`` count. None: nothing.
        """
        least = 0.0 if told is None else min(self.cap, told)
        growing = FullJitter(base=self.base, cap=self.cap)
        is_growing = not answered and growing.ceiling(failures) < self.cap
        is_first = failures == 1 or (not answered and growing.ceiling(failures - 1) < self.cap)
        if told is not None and (is_growing or is_first):
            return least + _AFTER_TOLD * self.cap * rng.random()
        if is_growing:
            return growing.seconds(failures, rng)
        return max(least, self.cap * (rng.random() if is_first else 1.0 - _DRAWN * rng.random()))


WATCHES = WatchBackoff(base=0.1, cap=5.0)
"""The waits of all watches."""


def told_wait(error: BaseException) -> float | None:
    """Return the seconds that an error of a registry says to wait, at least 0; None if it says nothing of use."""
    told: object = error.retry_after if isinstance(error, SvcmeshError) else None
    if isinstance(told, bool) or not isinstance(told, int | float) or math.isnan(told):
        return None
    return max(0.0, told)
