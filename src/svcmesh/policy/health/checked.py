"""When what checks find changes anything: thresholds, the first check, and the time until the next one.

It is Envoy's arithmetic: what it calls "edge" are checks that have begun to say something new but are not yet believed.
"""

from __future__ import annotations

from enum import Enum

from svcmesh.balance.picker import Rng
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import UNCHECKED, UNCOUNTED, Unwell


class Change(Enum):
    """What a check has changed."""

    NONE = "none"
    PENDING = "pending"
    CHANGED = "changed"


class Checked:
    """One endpoint, as its checks see it. Threads: the caller's lock.

    Attributes:
        ill: why it takes no calls, or None while it does.
        degraded: the last check that it passed said that it is to be called where others do not suffice.
        first: no check has ended yet.
    """

    __slots__ = ("_failures", "_successes", "degraded", "first", "ill")

    def __init__(self, *, waits: bool, counts: bool = True) -> None:
        """Begin. ``waits``: it takes no calls before its first check. ``counts``: it is one of its priority then."""
        self.ill: Unwell | None = (UNCHECKED if counts else UNCOUNTED) if waits else None
        self.degraded = False
        self.first = True
        self._successes = 0
        self._failures = 0

    @property
    def passed(self) -> bool:
        """Whether checks say that it is well."""
        return self.ill is None and not self.first

    def settle(self, found: Unwell | None, config: HealthCheck, *, degraded: bool = False) -> Change:
        """Take note of how a check ended, None for well; return what that has changed."""
        change = self._well(config, degraded) if found is None else self._unwell(found, config)
        self.first = False
        return change

    def _well(self, config: HealthCheck, degraded: bool) -> Change:
        turned, self.degraded = degraded is not self.degraded, degraded
        self._failures = 0
        if self.first:
            self.ill = None
            return Change.CHANGED
        if self.ill is None:
            return Change.CHANGED if turned else Change.NONE
        self._successes += 1
        if self._successes < config.healthy_threshold:
            return Change.PENDING
        self._successes, self.ill = 0, None
        return Change.CHANGED

    def _unwell(self, found: Unwell, config: HealthCheck) -> Change:
        self._successes = 0
        if self.ill is not None and not self.first:
            if self.ill.excluded and not found.excluded:  # until it is well, whatever else is wrong with it
                found = Unwell(found.reason, answered=found.answered, refusing=found.refusing, excluded=True)
            self.ill = found
            return Change.NONE
        self._failures += 1
        if not self.first and not found.answered and self._failures < config.unhealthy_threshold:
            return Change.PENDING
        self._failures, self.ill = 0, found
        return Change.CHANGED


def wait_after(config: HealthCheck, change: Change, rng: Rng, *, passed: bool, traffic: bool) -> float:
    """Return the seconds until the next check.

    Args:
        config, rng: whose. change: what this check has changed. passed: how it ended.
        traffic: whether the service was ever called.
    """
    seconds = _interval(config, passed=passed, pending=change is Change.PENDING, traffic=traffic)
    share, fixed = config.interval_jitter_percent / 100 * seconds, config.interval_jitter
    return seconds + sum(jitter * rng.random() for jitter in (share, fixed) if jitter)  # two draws, as Envoy's


def _interval(config: HealthCheck, *, passed: bool, pending: bool, traffic: bool) -> float:
    if not traffic:
        return (config.no_traffic_healthy_interval if passed else None) or config.no_traffic_interval
    if passed:
        return (config.healthy_edge_interval if pending else None) or config.interval
    edge = config.unhealthy_edge_interval if pending else None
    return edge or config.unhealthy_interval or config.interval
