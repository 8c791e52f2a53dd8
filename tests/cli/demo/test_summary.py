"""The verdict and the last lines."""

from __future__ import annotations

from svcmesh.cli.demo.summary import SHOWN, summary, verdict
from tests.cli.demo.samples import sample


def test_a_run_without_a_failure_succeeds() -> None:
    """No failed call and an answer by each protocol: nothing to say."""
    assert verdict(sample(), ["gRPC", "HTTP"]) == []


def test_a_failed_call_is_named() -> None:
    """One failed call is enough, and it is printed with its time, its protocol and its error."""
    lines = verdict(sample(failures=1), ["gRPC"])

    assert lines[0].startswith("1 of 201 calls failed")
    assert lines[1:] == ["    9.5 s  gRPC: RpcError: <broken> & 0"]


def test_many_failures_are_counted_rather_than_listed() -> None:
    """The first ones are printed in full, the others as a number."""
    lines = verdict(sample(failures=SHOWN + 5), ["gRPC"])

    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 5 more"


def test_silence_is_no_success() -> None:
    """A protocol by which no call succeeded makes the run a failure."""
    assert verdict(sample(), ["gRPC", "function"]) == ["not one call by function succeeded"]


def test_the_summary_has_a_line_per_protocol() -> None:
    """Each protocol with its calls and percentiles, then what became of the attempts."""
    lines = list(summary(sample(failures=2)))

    assert " ".join(lines[0].split()) == "gRPC 102 calls 2 failed p50 2.0 ms p99 1,000 ms"
    assert " ".join(lines[1].split()) == "HTTP 100 calls 0 failed p50 4.0 ms p99 4.0 ms"
    assert lines[2] == "200 attempts, 0 of them failed; 0 retries; 0 faults injected; ejections: greeter-1 1x"
    assert all(line.isascii() for line in lines)
