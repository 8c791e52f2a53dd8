"""Whether a failure is one too many: failures in a row, and rates over the last seconds.

Successes are only known as a total that somebody else counts (`svcmesh.policy.traffic`). The rate of a window is what
that total and the one of failures have grown by since the window began.
"""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.timeline import Timeline
from svcmesh.policy.traffic import Run, Traffic

_TICKS = 10
"""Samples per window: what is counted is off by a tenth of it at most."""


@dataclass(slots=True)
class Look:
    """What was seen of the successes when an end came in: all of them, and those of the window."""

    now: float
    succeeded: int
    recent: int


class Window:
    """The failures of one circuit since it closed last. Not thread-safe but for `look`: its breaker holds a lock.

    Attributes:
        shown: failures to show to those who ask for a counter: those in a row, or those of the window.
    """

    def __init__(self, config: CircuitBreaker) -> None:
        self.shown = 0
        self._config = config
        self._began = float("-inf")
        self._failed = Timeline(config.window, config.window / _TICKS)
        self._failures = 0
        self._slowed = Timeline(config.window, config.window / _TICKS)
        self._slow = 0
        self._run = Run()

    def look(self, now: float, traffic: Traffic) -> Look:
        """Read the successes: all, and those of the window."""
        succeeded = traffic.succeeded
        if self._config.failure_rate is None and self._config.slow is None:
            return Look(now, succeeded, 0)
        return Look(now, succeeded, max(0, succeeded - traffic.succeeded_at(self._edge(now))))

    def count(self, look: Look, *, failed: bool, slow: bool) -> bool:
        """Count one end; return whether the circuit has to open."""
        if failed:
            self._failed.roll(look.now, self._failures)
            self._failures += 1
            self._run.count(look.succeeded, look.now)
        if slow:
            self._slowed.roll(look.now, self._slow)
            self._slow += 1
        in_a_row = failed and self._config.consecutive is not None and self._run.length >= self._config.consecutive
        return self._over(look) or in_a_row

    def restart(self, now: float) -> None:
        """Count from ``now`` only: what happened before the circuit opened has had its consequence."""
        self._began = now
        self._failed = Timeline(self._config.window, self._config.window / _TICKS)
        self._slowed = Timeline(self._config.window, self._config.window / _TICKS)
        self._run = Run()
        self._failures = self._slow = self.shown = 0

    def _edge(self, now: float) -> float:
        return max(now - self._config.window, self._began)

    def _over(self, look: Look) -> bool:
        config, edge = self._config, self._edge(look.now)
        failures = self._failures - self._failed.at(edge)
        calls = failures + look.recent
        self.shown = self._run.length if config.failure_rate is None else failures
        if calls < config.minimum_calls:
            return False
        if config.failure_rate is not None and failures >= config.failure_rate * calls:
            return True
        slow = self._slow - self._slowed.at(edge)
        return config.slow is not None and slow >= config.slow.rate * calls
