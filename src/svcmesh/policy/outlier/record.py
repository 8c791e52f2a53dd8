"""What is remembered of one endpoint that has failed."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from svcmesh.policy.outlier.detection import OutlierDetection
from svcmesh.policy.outlier.ejection import (
    CONSECUTIVE_5XX,
    CONSECUTIVE_GATEWAY_FAILURE,
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
)
from svcmesh.policy.outlier.fault import Fault
from svcmesh.policy.timeline import Timeline
from svcmesh.policy.traffic import Run, Traffic

_TICKS = 10


class Host(Traffic, Protocol):
    """The ends of attempts at an endpoint that nobody reports, as totals."""

    @property
    def faulty(self) -> int:
        """Those of `succeeded` that were a `Fault.SERVER`."""


class Faults(NamedTuple):
    """How many there were of each kind."""

    local: int = 0
    gateway: int = 0
    server: int = 0

    @property
    def answered(self) -> int:
        """Those that came from the other side."""
        return self.gateway + self.server


class Record:
    """The failures of one endpoint, and its ejections.

    Attributes:
        answered_at: instant of the last failure that was not a refused connection.
        multiplier: how often it was ejected of late.
        back_at: when the last ejection ended, or would have.

    A run of failures is broken by an end that is none of its own: of the gateway's by any other answer, of any 5xx by a
    good one, and of those without an answer, where they are counted apart, by any. Source: Envoy.
    """

    __slots__ = ("_config", "_runs", "_shares", "_taken", "_totals", "answered_at", "back_at", "multiplier")

    def __init__(self, config: OutlierDetection) -> None:
        self.multiplier = 0
        self.back_at = -math.inf
        self._config = config
        self._totals = [0, 0, 0]  # in the order of `Faults`
        self._taken = Faults()
        self.clear()

    def clear(self) -> None:
        """Start counting afresh what is judged at each failure; how often it was ejected stays."""
        self.answered_at = -math.inf
        self._runs = {
            CONSECUTIVE_GATEWAY_FAILURE: Run(),
            CONSECUTIVE_5XX: Run(),
            CONSECUTIVE_LOCAL_ORIGIN_FAILURE: Run(),
        }
        self._shares = Timeline(self._config.interval, self._config.interval / _TICKS)

    def count(self, fault: Fault, host: Host, now: float, *, refused: bool) -> None:
        """Count a failure. ``refused``: no connection could be made at all."""
        if not refused:
            self.answered_at = now
        if fault is not Fault.SERVER:
            self._shares.roll(now, self._blamed)
        self._totals[_PLACES[fault]] += 1
        gateway, server, local = self._runs.values()
        apart = self._config.split_external_local_origin_errors
        if apart and fault is Fault.LOCAL:
            local.count(host.succeeded, now)
            return
        local.end()
        server.count(host.succeeded - host.faulty, now)
        if fault is Fault.SERVER:
            gateway.end()
        else:
            gateway.count(host.succeeded, now)

    def run(self, reason: str) -> Run:
        """Return the failures in a row that a consecutive ``reason`` is about."""
        return self._runs[reason]

    def since(self, instant: float) -> int:
        """Return the failures since ``instant`` that blame the endpoint, to within a tick."""
        return self._blamed - self._shares.at(instant)

    def take(self) -> Faults:
        """Return the failures since this was asked last."""
        taken, self._taken = self._taken, Faults(*self._totals)
        return Faults(*(now - then for now, then in zip(self._taken, taken, strict=True)))

    def sentence(self, began: float) -> float:
        """Return how long an ejection lasts, jitter apart, and count it.

        It was well until ``began``, when the first of the failures came that led to this. Those of the probes of a
        breaker come one by one, and the time between them is no sign of health.
        """
        config = self._config
        if not config.read.ticks and began > self.back_at:
            self.forgive(_whole_intervals(began - self.back_at, config.interval))
        # Envoy's bound: beyond it a longer ejection would be cut to the maximum anyway, and decay would take for ever.
        longest = config.max_ejection_time + config.base_ejection_time
        if not config.read.caps or self.multiplier * config.base_ejection_time < longest:
            self.multiplier += 1
        return min(config.base_ejection_time * self.multiplier, config.max_ejection_time)

    def forgive(self, times: int = 1) -> None:
        """Forget ``times`` ejections."""
        self.multiplier = max(0, self.multiplier - times)

    @property
    def _blamed(self) -> int:
        return self._totals[0] + self._totals[1]


_PLACES = {Fault.LOCAL: 0, Fault.GATEWAY: 1, Fault.SERVER: 2}


def _whole_intervals(seconds: float, interval: float) -> int:
    return 10**9 if math.isinf(seconds) else int(seconds / interval)
