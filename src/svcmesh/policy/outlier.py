"""Taking an endpoint out of rotation for a while because it keeps failing, and letting it back in.

A breaker refuses calls; ejection only stops choosing an endpoint, and never all of them, so it may act at the first
clear sign. Envoy acts on failures in a row at once and on rates once per interval. Here both are judged when a
failure comes in, over the last ``interval`` seconds: the same arithmetic, without a sweep over thousands of
endpoints that are well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Outcome
from svcmesh.policy.timeline import Timeline
from svcmesh.policy.traffic import Run, Traffic

CONSECUTIVE = "consecutive_gateway_failure"
PERCENTAGE = "failure_percentage"
_TICKS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected and for how long. Field names and meanings are Envoy's.

    Args:
        consecutive_gateway_failure: failures in a row that eject: no connection, reset, per-try timeout, HTTP 502,
            503, 504, gRPC UNAVAILABLE. At least 1; default 5; None: not by their number.
        failure_percentage_threshold: share of failures, in percent, that ejects; more than 0, at most 100; default
            85; None: not by share.
        failure_percentage_request_volume: requests to the endpoint in the interval below which no share counts; at
            least 1; default 20.
        interval: seconds over which the share is taken, and after which one ejection is forgiven; default 10.
        base_ejection_time: seconds of the first ejection; each further one is that much longer; default 5 (Envoy:
            30, for it cannot tell that an endpoint is back before the time is over).
        max_ejection_time: seconds of the longest; at least ``base_ejection_time``; default 300.
        max_ejection_time_jitter: seconds up to which a random time is added, at least 0; None: a tenth of the
            ejection, so that endpoints that went together do not come back together.
        max_ejection_percent: share of the endpoints, in percent, that may be ejected at once, from 0 to 100. None:
            all but one of fewer than ten, and half of ten or more. Never the last one, whatever this says.

    Raises:
        ConfigError: a value outside its range, or nothing that could eject.

    Source: Envoy, `OutlierDetection`.
    """

    consecutive_gateway_failure: int | None = 5
    failure_percentage_threshold: float | None = 85
    failure_percentage_request_volume: int = 20
    interval: float = 10.0
    base_ejection_time: float = 5.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float | None = None
    max_ejection_percent: float | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        threshold = self.failure_percentage_threshold
        if self.consecutive_gateway_failure is not None:
            checks.whole("consecutive_gateway_failure", self.consecutive_gateway_failure, 1)
        if threshold is not None and checks.between("failure_percentage_threshold", threshold, 0, 100) == 0:
            raise ConfigError("failure_percentage_threshold must be more than 0; None turns it off")
        if threshold is None and self.consecutive_gateway_failure is None:
            raise ConfigError("consecutive_gateway_failure and failure_percentage_threshold are both None")
        checks.whole("failure_percentage_request_volume", self.failure_percentage_request_volume, 1)
        for field in ("interval", "base_ejection_time", "max_ejection_time"):
            checks.duration(field, getattr(self, field))
        if self.max_ejection_time < self.base_ejection_time:
            raise ConfigError(
                f"max_ejection_time must be at least base_ejection_time ({self.base_ejection_time!r}), "
                f"not {self.max_ejection_time!r}"
            )
        checks.seconds("max_ejection_time_jitter", self.max_ejection_time_jitter, zero=True)
        if self.max_ejection_percent is not None:
            checks.between("max_ejection_percent", self.max_ejection_percent, 0, 100)

    def most(self, population: int) -> int:
        """Return how many of ``population`` endpoints may be ejected at once."""
        if self.max_ejection_percent is not None:
            allowed = math.floor(population * self.max_ejection_percent / 100 + 1e-9)
        else:
            allowed = population // 2 if population >= 10 else population
        return max(0, min(allowed, population - 1))


@dataclass(frozen=True, slots=True)
class Ejection:
    """One endpoint, out of rotation.

    Attributes:
        address: of the endpoint.
        until: instant at which it comes back.
        seconds: how long it is out in all.
        reason: Envoy's name of what was found: ``consecutive_gateway_failure`` or ``failure_percentage``.
        refusing: every failure that led to it was a refused connection, so one that is accepted ends it.
    """

    address: str
    until: float
    seconds: float
    reason: str
    refusing: bool


class OutlierDetector:
    """The ejections of one service.

    Invariant: of a population of n, at most ``config.most(n)`` are ejected, so never the last one.

    Threads: none of its own safety; the caller holds one lock round every method.
    """

    def __init__(self, config: OutlierDetection, rng: Rng) -> None:
        self._config = config
        self._rng = rng
        self._records: dict[str, _Record] = {}
        self._ejected: dict[str, Ejection] = {}
        self.ejected: Mapping[str, Ejection] = MappingProxyType(self._ejected)

    def failed(self, address: str, traffic: Traffic, outcome: Outcome, now: float, population: int) -> Ejection | None:
        """Count a failure of ``address``; return the ejection when it was one too many.

        Args:
            address: whose failure.
            traffic: its successes.
            outcome: the failure; one that does not blame the endpoint is ignored.
            now: the current instant.
            population: endpoints that could be chosen if none were ejected.
        """
        if not outcome.blames:
            return None
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = _Record(self._config.interval)
        record.count(traffic.succeeded, outcome.refused, now)
        if address in self._ejected or len(self._ejected) >= self._config.most(population):
            return None
        reason = self._reason(record, traffic, now)
        return None if reason is None else self._eject(address, record, reason, now)

    def due(self, now: float) -> list[str]:
        """Restore those whose time is over, and return their addresses."""
        over = [ejection.address for ejection in self._ejected.values() if ejection.until <= now]
        for address in over:
            self._restore(address)
        return over

    def next_return(self) -> float | None:
        """Return the instant at which the next one comes back; None when none is ejected."""
        return min((ejection.until for ejection in self._ejected.values()), default=None)

    def connected(self, address: str) -> bool:
        """Take note that ``address`` accepts connections; return whether that restored it."""
        ejection = self._ejected.get(address)
        if ejection is None or not ejection.refusing:
            return False
        self._restore(address)
        return True

    def resize(self, population: int) -> list[str]:
        """Restore those due soonest until no more are ejected than ``population`` allows; return their addresses.

        For when endpoints left: the share that was right of ten may be all of the three that stayed.
        """
        surplus = max(0, len(self._ejected) - self._config.most(population))
        soonest = sorted(self._ejected.values(), key=lambda ejection: ejection.until)[:surplus]
        for ejection in soonest:
            self._restore(ejection.address)
        return [ejection.address for ejection in soonest]

    def forget(self, address: str) -> None:
        """Drop everything about an endpoint that left discovery: should it come back, it starts afresh."""
        self._records.pop(address, None)
        self._ejected.pop(address, None)

    def _reason(self, record: _Record, traffic: Traffic, now: float) -> str | None:
        config = self._config
        if config.consecutive_gateway_failure is not None and record.run.length >= config.consecutive_gateway_failure:
            return CONSECUTIVE
        if config.failure_percentage_threshold is None:
            return None
        failures = record.since(now - config.interval)
        requests = failures + max(0, traffic.succeeded - traffic.succeeded_at(now - config.interval))
        enough = requests >= config.failure_percentage_request_volume
        return PERCENTAGE if enough and 100 * failures >= config.failure_percentage_threshold * requests else None

    def _eject(self, address: str, record: _Record, reason: str, now: float) -> Ejection:
        config = self._config
        began = record.run.began if reason == CONSECUTIVE else now - config.interval
        seconds = record.next_seconds(config, now)
        jitter = seconds / 10 if config.max_ejection_time_jitter is None else config.max_ejection_time_jitter
        seconds += jitter * self._rng.random()
        ejection = Ejection(address, now + seconds, seconds, reason, refusing=record.answered_at < began)
        record.until = ejection.until
        self._ejected[address] = ejection
        return ejection

    def _restore(self, address: str) -> None:
        del self._ejected[address]
        self._records[address].clear()


class _Record:
    """What is remembered of one endpoint that has failed.

    Attributes:
        run: failures in a row.
        answered_at: instant of the last failure that was not a refused connection.
        multiplier: how often it was ejected of late. until: when the last ejection ended, or would have.
    """

    __slots__ = (
        "_failures",
        "_interval",
        "_timeline",
        "answered_at",
        "multiplier",
        "run",
        "until",
    )

    def __init__(self, interval: float) -> None:
        self.multiplier = 0
        self.until = -math.inf
        self._interval = interval
        self.clear()

    def clear(self) -> None:
        """Start counting afresh; how often it was ejected stays."""
        self.run = Run()
        self._failures = 0
        self.answered_at = -math.inf
        self._timeline = Timeline(self._interval, self._interval / _TICKS)

    def count(self, succeeded: int, refused: bool, now: float) -> None:
        """Count a failure; ``succeeded``: the successes ever. ``refused``: no connection could be made at all."""
        self.run.count(succeeded, now)
        if not refused:
            self.answered_at = now
        self._timeline.roll(now, self._failures)
        self._failures += 1

    def since(self, instant: float) -> int:
        """Return the failures since ``instant``, to within a tick."""
        return self._failures - self._timeline.at(instant)

    def next_seconds(self, config: OutlierDetection, now: float) -> float:
        """Return how long the ejection that begins now lasts, jitter apart, and count it."""
        if now > self.until:
            self.multiplier = max(0, self.multiplier - _whole_intervals(now - self.until, config.interval))
        # Envoy's bound: beyond it a longer ejection would be cut to the maximum anyway, and decay would take for ever.
        if self.multiplier * config.base_ejection_time < config.max_ejection_time + config.base_ejection_time:
            self.multiplier += 1
        return min(config.base_ejection_time * self.multiplier, config.max_ejection_time)


def _whole_intervals(seconds: float, interval: float) -> int:
    return 10**9 if math.isinf(seconds) else int(seconds / interval)
