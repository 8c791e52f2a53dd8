"""What a server is worth by its own reports: calls answered per utilization, and whether that is to be believed yet.

A server that answers 100 calls a second and is half busy could answer 200, and that is its weight. Errors make it
busier than it says, or else a server that fails fast would look idle. A weight counts only after reports have come for
a while, because what a server says in its first seconds is what starting takes; and no more when they have ceased.

Source: gRFC A58 (weight calculation, blackout and expiration) and A114 (names of metrics).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from svcmesh.balance.load_report import LoadReport


def weight_of(report: LoadReport, penalty: float, names: Sequence[str]) -> float:
    """Return the weight that a report stands for; 0 where it says too little, or what cannot be.

    Args:
        report: what a server says of itself.
        penalty: what the share of errors among its calls is multiplied by, to be added to its utilization.
        names: as of `utilization`.
    """
    calls, busy = report.rps_fractional, utilization(report, names)
    if not (calls > 0 and busy > 0):  # a NaN is neither
        return 0.0
    errors = report.eps / calls * penalty if report.eps > 0 else 0.0
    weight = calls / (busy + errors)
    return weight if weight < inf else 0.0


def utilization(report: LoadReport, names: Sequence[str]) -> float:
    """Return how busy a server is: the most of the metrics of these names, its own judgement, or its processors."""
    named = max([value for name in names if (value := report.metric(name)) > 0], default=0.0)
    if named > 0:
        return named
    application = report.application_utilization
    return application if application > 0 else report.cpu_utilization


class ServerLoad:
    """What the reports of one endpoint have come to; it stays with its cell.

    Attributes:
        weight: as of the latest report that had one. latest: when that came. since: the first one of those that came
            without a break; infinite before there is any.

    Threads: any.
    """

    __slots__ = ("latest", "since", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.latest = -inf
        self.since = inf

    def take(self, weight: float, now: float, expiration: float) -> None:
        """Take in the weight of a report; one of 0 is no news. ``expiration``: seconds that are a break."""
        if weight > 0:
            if now - self.latest >= expiration:
                self.since = now
            self.weight, self.latest = weight, now

    def begin_anew(self) -> None:
        """Forget what was reported, and that it was: the next report is a first one."""
        self.latest, self.since = -inf, inf


def weights_at(loads: Iterable[ServerLoad], now: float, blackout: float, expiration: float) -> list[float]:
    """Return the weights that count now; 0 for those that do not.

    Args:
        loads: of whom. now: the instant. blackout: seconds of reports without a break before a weight counts.
        expiration: seconds without a report after which it counts no more.
    """
    expired, settled = now - expiration, now - blackout
    return [load.weight if load.latest > expired and load.since <= settled else 0.0 for load in loads]
