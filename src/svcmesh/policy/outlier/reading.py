"""What Envoy and gRPC make differently of the same settings, and what the standard policy does differently from both.

Envoy and gRPC look at everything on a timer, so that an ejection lasts until the next tick after its end. The standard
policy has no timer to wait for: what is over is over, and a share is judged when a failure comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["standard", "envoy", "grpc"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read `OutlierDetection`.

    Attributes:
        ticks: ejections end, and are forgiven, once per interval only; else at the very instant, or as soon as an
            endpoint that refused connections accepts one.
        returns_first: on a tick, those whose time is over come back before rates are judged; else after that.
        overdue: a time that has just passed is not over yet: it takes a moment more.
        forgives_at_once: a tick forgives one ejection as soon as the endpoint is back; else after an interval of that.
            To one that it finds anew it forgives nothing.
        scale: what a success rate without a failure is.
        beyond: a percentage of failures must be above its threshold; else it may be equal to it.
        repeats: one that is ejected is judged as well, and ejected anew.
        counts_candidate: `max_ejection_percent` holds with the one about to go; else before it goes.
        caps: the count of ejections stops where more would not make them longer.
        spares: one is never ejected, whatever the percentage.

    Source: Envoy, outlier_detection_impl.cc; gRPC, A50 and its implementation in Go.
    """

    ticks: bool = True
    returns_first: bool = True
    overdue: bool = False
    forgives_at_once: bool = False
    scale: float = 100.0
    beyond: bool = False
    repeats: bool = False
    counts_candidate: bool = True
    caps: bool = True
    spares: bool = False

    def allows(self, percent: float, ejected: int, population: int) -> bool:
        """Whether one more of ``population`` may be ejected, when ``ejected`` are."""
        if self.counts_candidate:
            return 100.0 * (ejected + 1) / population <= percent
        return ejected / population * 100.0 < percent


READINGS: dict[Name, Reading] = {
    "standard": Reading(ticks=False, spares=True),
    "envoy": Reading(),
    "grpc": Reading(
        returns_first=False,
        overdue=True,
        forgives_at_once=True,
        scale=1.0,
        beyond=True,
        repeats=True,
        counts_candidate=False,
        caps=False,
    ),
}
