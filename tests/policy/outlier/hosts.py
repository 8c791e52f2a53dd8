"""Endpoints without a network: totals that a test sets, failures that it reports, and draws that it chooses."""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.outlier import Ejection, OutlierDetection, OutlierDetector

UNAVAILABLE = Outcome(Kind.STATUS, reason="503", blames=True)
BROKEN = Outcome(Kind.STATUS, reason="500")
REFUSED = Outcome(Kind.UNSENT, reason="connect-failure", blames=True)
LATE = Outcome(Kind.TIMEOUT, reason="per-try-timeout", blames=True)
MISTAKE = Outcome(Kind.STATUS, reason="404")
A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


@dataclass
class Traffic:
    """Successes of an endpoint: all, those that are older than any window, and answers that were errors."""

    succeeded: int = 0
    old: int = 0
    faulty: int = 0

    def succeeded_at(self, instant: float) -> int:
        return self.old


class Draw:
    """Always draws the same number."""

    def __init__(self, number: float = 0.0) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def make(draw: float = 0.0, **settings) -> OutlierDetector:
    """Return a detector of the standard reading."""
    return OutlierDetector(OutlierDetection(**settings), Draw(draw))


def fail(detector, address=A, times=5, now=0.0, outcome=UNAVAILABLE, population=3, traffic=None):
    """Report failures; return what the last one led to."""
    ejection = None
    for _ in range(times):
        ejection = detector.failed(address, traffic or Traffic(), outcome, now, lambda: population)
    return ejection


class Fleet:
    """Some endpoints under one detector, each with its totals; time goes on by ticks.

    Attributes:
        now: the instant of the last tick.
    """

    def __init__(self, config: OutlierDetection, size: int = 5, draw: float = 0.0) -> None:
        self.config = config
        self.detector = OutlierDetector(config, Draw(draw))
        self.hosts = {f"10.0.0.{number}:80": Traffic() for number in range(1, size + 1)}
        self.now = 0.0

    def serve(self, address: str, good: int = 0, bad: int = 0, outcome: Outcome = UNAVAILABLE) -> list[Ejection]:
        """Let ``good`` requests end well and then ``bad`` ones in ``outcome``; return who was ejected at once."""
        host, ejected = self.hosts[address], []
        host.succeeded += good
        for _ in range(bad):
            if outcome is BROKEN:
                host.succeeded += 1
                host.faulty += 1
            ejected.append(self.detector.failed(address, host, outcome, self.now, lambda: len(self.hosts)))
        return [ejection for ejection in ejected if ejection is not None]

    def serve_rest(self, address: str, good: int) -> None:
        """Let ``good`` requests end well at everybody but ``address``."""
        for other in self.hosts:
            if other != address:
                self.serve(other, good)

    def tick(self, times: int = 1):
        """Let intervals pass; return what the tick at the end of the last one found."""
        found = None
        for _ in range(times):
            self.now += self.config.interval
            found = self.detector.tick(self.hosts, self.now, len(self.hosts))
        return found

    def ticks_until_back(self, address: str) -> int:
        """Tick until ``address`` is back; return how often that took."""
        for number in range(1, 1000):
            if address in self.tick().restored:
                return number
        raise AssertionError("it never came back")
