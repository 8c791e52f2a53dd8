"""What is said at the end, and the verdict: the demo succeeds when every call of every protocol did."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from svcmesh.cli.demo.figures import milliseconds, of_calls, protocols
from svcmesh.cli.demo.record import Record

SHOWN = 10
"""Failures that are printed in full."""


def verdict(record: Record, expected: Collection[str]) -> list[str]:
    """Return why the run is no success; empty when it is one.

    Args:
        record: what happened.
        expected: protocols by which at least one call must have succeeded, for silence is no success.
    """
    failures = record.failures
    lines = (
        [f"{len(failures)} of {len(record.calls):,} calls failed, and all of them may be repeated:"] if failures else []
    )
    lines += [f"  {call.at:5.1f} s  {call.protocol}: {call.error}" for call in failures[:SHOWN]]
    if len(failures) > SHOWN:
        lines.append(f"  and {len(failures) - SHOWN} more")
    answered = {call.protocol for call in list(record.calls) if call.error is None}
    lines += [f"not one call by {protocol} succeeded" for protocol in expected if protocol not in answered]
    return lines


def summary(record: Record) -> Iterator[str]:
    """Yield the lines of the summary; plain ASCII."""
    calls = list(record.calls)
    width = max((len(protocol) for protocol in protocols(calls)), default=0)
    for protocol in protocols(calls):
        found = of_calls([call for call in calls if call.protocol == protocol])
        yield (
            f"{protocol:<{width}}  {found.count:6,} calls  {found.failed} failed"
            f"  p50 {milliseconds(found.p50):>7}  p99 {milliseconds(found.p99):>8}"
        )
    failed = sum(not attempt.ok for attempt in list(record.attempts))
    ejected = ", ".join(f"{name} {count}x" for name, count in sorted(record.ejections.items())) or "none"
    yield (
        f"{len(record.attempts):,} attempts, {failed} of them failed; {record.retries} retries; "
        f"{record.faults} faults injected; ejections: {ejected}"
    )
