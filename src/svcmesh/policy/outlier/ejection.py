"""One endpoint out of rotation, and the words that say why."""

from __future__ import annotations

from dataclasses import dataclass

CONSECUTIVE_5XX = "consecutive_5xx"
CONSECUTIVE_GATEWAY_FAILURE = "consecutive_gateway_failure"
CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"
SUCCESS_RATE = "success_rate"
SUCCESS_RATE_LOCAL_ORIGIN = "success_rate_local_origin"
FAILURE_PERCENTAGE = "failure_percentage"
FAILURE_PERCENTAGE_LOCAL_ORIGIN = "failure_percentage_local_origin"
"""What is found. Source: Envoy, `OutlierEjectionType`, in lower case."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """One endpoint, out of rotation.

    Attributes:
        address: of the endpoint.
        began: instant of the ejection. seconds: how long it is out in all.
        reason: what was found, one of the words above.
        refusing: every failure that led to it was a refused connection, so one that is accepted ends it.
    """

    address: str
    began: float
    seconds: float
    reason: str
    refusing: bool

    @property
    def until(self) -> float:
        """Instant from which it may come back."""
        return self.began + self.seconds

    def over(self, now: float, *, strictly: bool) -> bool:
        """Whether its time has passed at ``now``, and, if ``strictly``, more than that."""
        return passed(self.began, now, self.seconds, strictly=strictly)


def passed(since: float, now: float, seconds: float, *, strictly: bool = False) -> bool:
    """Whether ``seconds`` have passed since an instant, and, if ``strictly``, more than these.

    To the microsecond: instants are floats, and the last digit of a difference must not cost an interval.
    """
    spare = round((now - since) * 1e6) - round(seconds * 1e6)
    return spare > 0 if strictly else spare >= 0
