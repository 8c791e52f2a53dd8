"""Numbers and short texts made of a record."""

from __future__ import annotations

import pytest

from svcmesh.cli.demo.figures import instances_now, milliseconds, of_attempts, of_calls, percent, protocols
from svcmesh.cli.demo.record import AttemptDone, CallDone, Mark
from tests.cli.demo.samples import Now, sample


def test_figures_of_calls_and_attempts() -> None:
    """Count, failures, median and 99th percentile; of nothing there are no percentiles."""
    calls = [CallDone(0.0, "gRPC", index / 1000) for index in range(1, 100)] + [CallDone(0.0, "gRPC", 0.1, "broken")]
    found = of_calls(calls)

    assert (found.count, found.failed, found.p50, found.p99) == (100, 1, 0.05, 0.099)
    assert of_attempts([AttemptDone(0.0, "s", "i", 0.5, ok=False)]).failed == 1
    assert of_calls([]).p50 is None


def test_instances_as_they_are_now() -> None:
    """Shares are of the last seconds and within a service; totals and ejections are of the whole run."""
    found = {instance.name: instance for instance in instances_now(sample())}

    assert list(found) == ["greeter-1", "greeter-2", "orders-1"]
    assert (found["greeter-1"].share, found["greeter-1"].attempts, found["greeter-1"].ejections) == (0.0, 25, 1)
    assert (found["greeter-2"].share, found["greeter-2"].attempts, found["greeter-2"].ejections) == (1.0, 75, 0)
    assert found["greeter-1"].now.p50 is None
    assert found["orders-1"].share == 1.0


def test_an_instance_that_was_never_called_is_listed() -> None:
    """A server that just joined has a share of 0."""
    record = sample(Now())
    record.addresses["orders-2"] = ("orders", "127.0.0.1:2002")
    record.marks.append(Mark(9.0, "joined", "orders-2"))

    assert [(found.name, found.share) for found in instances_now(record)][-1] == ("orders-2", 0.0)


def test_protocols_in_order() -> None:
    """Each protocol once, in the same order whoever came first."""
    assert protocols(sample().calls) == protocols(sample().calls[::-1]) == ["gRPC", "HTTP"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0018, "1.8 ms"), (0.0999, "99.9 ms"), (0.2, "200 ms"), (1.5, "1,500 ms")]
)
def test_durations_for_people(seconds: float | None, text: str) -> None:
    """Milliseconds, with a decimal where it matters."""
    assert milliseconds(seconds) == text


def test_shares_for_people() -> None:
    """Whole percents."""
    assert percent(1 / 3) == "33 %"
