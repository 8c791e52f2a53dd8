"""Counts and latencies that many threads share add up; `benchmarks.micro.threads` does the same a million times."""

from __future__ import annotations

import pytest

from benchmarks.micro.threads import storm
from svcmesh.balance import LeastRequest, LoadBalancer, PeakEwma


@pytest.mark.parametrize("balancer", [LeastRequest(), PeakEwma()], ids=["LeastRequest", "PeakEwma"])
def test_after_calls_from_16_threads_nothing_is_in_flight_and_nothing_is_lost(balancer: LoadBalancer) -> None:
    """Failures, errors and cancellations mixed in; 16 threads in turns of 10 microseconds."""
    found = storm(4_800, balancer)

    assert found["in_flight"] == [0] * 5
    assert found["started"] == found["finished"] == found["calls"] == 4_800
    assert found["unsuccessful"] == found["expected_unsuccessful"]
    assert found["sane"]
