"""When a process tells its registry again that it lives: each at a moment of its own, which outages do not take away.

A thousand processes that heartbeat come evenly, and a registry that was away for a while should not notice that it was.

- The first heartbeat comes at any moment of a third of the TTL, however many processes were started together. From then
  on they are a third apart, nearly.
- One that fails is repeated as late, twice inside the TTL, so that everybody keeps that moment: a registry that is back
  by then is told no more often than on any other day.
- Who was forgotten takes a moment anew, of a longer time, after those who are not forgotten yet have had theirs.
- Who was never registered follows the law of watches: soon, and then less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.balance.picker import Rng
from svcmesh.policy.watch_backoff import WatchBackoff

LONGEST = 5.0
"""Seconds between two attempts while the registry does not answer, at most."""

_SHARE_OF_TTL = 3.0
_DRAWN = 0.02  # part of a wait that is drawn: who has a moment of his own is to keep it


@dataclass(frozen=True, slots=True)
class HeartbeatPace:
    """The waits of one registration, each from the beginning of one attempt to the next; ``ttl`` in seconds.

    All are drawn from the ``rng`` that they are given. A registry that is back for a TTL has been told.
    """

    ttl: float

    @property
    def every(self) -> float:
        """Seconds between two heartbeats, at most."""
        return self.ttl / _SHARE_OF_TTL

    def first(self, rng: Rng) -> float:
        """Draw the wait from the registration to the first heartbeat."""
        return self.every * rng.random()

    def usual(self, rng: Rng) -> float:
        """Draw the wait from one heartbeat to the next."""
        return self.every * (1.0 - _DRAWN * rng.random())

    def missed(self, rng: Rng) -> float:
        """Draw the wait after a heartbeat that failed inside the TTL."""
        return min(self.every, LONGEST) * (1.0 - _DRAWN * rng.random())

    def forgotten(self, failures: int, rng: Rng, told: float | None = None) -> float:
        """Draw the wait after a failure since the TTL has ended.

        Args:
            failures: how many since then, from 1. rng: what is drawn from.
            told: seconds that the registry has asked for.
        """
        wait = self._backoff.seconds(failures, rng, answered=True, told=told)
        return self.every + wait if failures == 1 else wait

    def new(self, failures: int, rng: Rng, told: float | None = None) -> float:
        """Draw the wait of who was never registered; as `forgotten`."""
        return self._backoff.seconds(failures, rng, answered=False, told=told)

    @property
    def _backoff(self) -> WatchBackoff:
        return WatchBackoff(base=min(0.1, self.every), cap=min(LONGEST, 2.0 * self.every))
