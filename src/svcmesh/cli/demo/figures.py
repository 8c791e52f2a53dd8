"""What is shown of a record, as numbers and short texts: the same for table, lines and summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from svcmesh.cli.demo.record import AttemptDone, CallDone, Record, since
from svcmesh.cli.demo.series import quantile

WINDOW = 2.0
"""Seconds over which "now" is measured."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Calls or attempts of one group: how many, how many of them failed, and how long they took in seconds."""

    count: int
    failed: int
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Instance:
    """One server: its share (0 to 1) of its service's attempts now, and what it went through in all."""

    service: str
    name: str
    share: float
    attempts: int
    now: Figures
    ejections: int


def of_calls(calls: Sequence[CallDone]) -> Figures:
    """Return the figures of some calls."""
    seconds = [call.seconds for call in calls]
    failed = sum(call.error is not None for call in calls)
    return Figures(len(calls), failed, quantile(seconds, 0.5), quantile(seconds, 0.99))


def of_attempts(attempts: Sequence[AttemptDone]) -> Figures:
    """Return the figures of some attempts."""
    seconds = [attempt.seconds for attempt in attempts]
    failed = sum(not attempt.ok for attempt in attempts)
    return Figures(len(attempts), failed, quantile(seconds, 0.5), quantile(seconds, 0.99))


def instances_now(record: Record) -> list[Instance]:
    """Return all servers ever seen, by name, as they were over the last seconds."""
    recent = since(record.attempts, record.elapsed() - WINDOW)
    totals = Counter(attempt.instance for attempt in list(record.attempts))
    of_service = Counter(attempt.service for attempt in recent)
    ejections = record.ejections
    found: list[Instance] = []
    for name, (service, _) in sorted(record.addresses.copy().items()):
        now = of_attempts([attempt for attempt in recent if attempt.instance == name])
        share = now.count / of_service[service] if now.count else 0.0
        found.append(Instance(service, name, share, totals[name], now, ejections[name]))
    return found


def protocols(calls: Sequence[CallDone]) -> list[str]:
    """Return the names of the protocols that were called by, in alphabetical order: the same in every run."""
    return sorted({call.protocol for call in calls}, key=str.casefold)


def milliseconds(seconds: float | None) -> str:
    """Return a duration for people: ``1.8 ms``, and ``-`` for none."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def percent(share: float) -> str:
    """Return a share for people: ``33 %``."""
    return f"{share * 100:.0f} %"
