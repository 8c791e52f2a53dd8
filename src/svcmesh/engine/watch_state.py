"""What is known of a watch, as numbers that its owner writes and anybody may read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class WatchState:
    """What is known of a watch. Written on its loop; any thread may read.

    Attributes:
        answered: a good snapshot has come, ever.
        failing_since: instant at which the watch broke, or None while it holds.
        failures: attempts that have failed since it last held for a while.
        cached_at: instant up to which what is in force is known to have been so, where a cache said it; else None.
        expired: what was known has been dropped, since it was out of date for too long.
    """

    answered: bool = False
    failing_since: float | None = None
    failures: int = 0
    cached_at: float | None = None
    expired: bool = False

    def age(self, now: float) -> float | None:
        """Return for how many seconds what is in force may be out of date: 0 while the watch holds, None at first."""
        since = self.failing_since if self.answered else self.cached_at
        if since is None:
            return 0.0 if self.answered else None
        return max(0.0, now - since)
