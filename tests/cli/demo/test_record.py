"""What is remembered of calls and events."""

from __future__ import annotations

from svcmesh import CallInfo, Endpoint, NoEndpoints
from svcmesh.cli.demo.record import EVENTS, INSTANCE, AttemptDone, Mark, Record, describe_failure, name_of, since
from svcmesh.core.info import attach
from svcmesh.observe import events
from tests.cli.demo.samples import Now

ONE = Endpoint("127.0.0.1:1", metadata={INSTANCE: "greeter-1"})
BARE = Endpoint("127.0.0.1:2")


def test_calls_are_timed_from_the_beginning() -> None:
    """A call is remembered with the seconds since the record began, its failure with its reason."""
    now = Now(50.0)
    record = Record(now)
    now.seconds = 52.5
    record.succeeded("gRPC", 0.25)
    record.failed("HTTP", 1.0, NoEndpoints("nobody"))

    assert [(call.at, call.protocol, call.seconds) for call in record.calls] == [
        (2.5, "gRPC", 0.25),
        (2.5, "HTTP", 1.0),
    ]
    assert [call.error for call in record.failures] == ["NoEndpoints: nobody"]


def test_events_become_entries() -> None:
    """Each kind of event that the record asks for changes what it says."""
    record = Record(Now(10.0))
    for event in (
        events.EndpointsChanged(10.5, "greeter", added=(ONE,), removed=(BARE,), changed=(), age=None),
        events.AttemptFinished(11.0, "greeter", endpoint=ONE, seconds=0.1, outcome="success"),
        events.AttemptFinished(11.5, "greeter", endpoint=BARE, seconds=0.2, outcome="lost"),
        events.RetryScheduled(11.5, "greeter", attempt=1, endpoint=BARE, delay=0.0, reason="reset"),
        events.FaultInjectedEvent(11.6, "greeter", kind="abort"),
        events.EndpointEjected(12.0, "greeter", endpoint=ONE, reason="x", seconds=5.0),
        events.EndpointRestored(13.0, "greeter", endpoint=ONE),
    ):
        record.hear(event)

    assert record.attempts == [
        AttemptDone(1.0, "greeter", "greeter-1", 0.1, ok=True),
        AttemptDone(1.5, "greeter", "127.0.0.1:2", 0.2, ok=False),
    ]
    assert (record.retries, record.faults, record.ejections) == (1, 1, {"greeter-1": 1})
    assert record.addresses == {"greeter-1": ("greeter", "127.0.0.1:1")}
    assert record.marks == [
        Mark(0.5, "joined", "greeter-1"),
        Mark(0.5, "left", "127.0.0.1:2"),
        Mark(2.0, "ejected", "greeter-1"),
        Mark(3.0, "restored", "greeter-1"),
    ]


def test_the_record_can_subscribe_to_what_it_wants() -> None:
    """Every pattern matches events that there are."""
    bus = Record(Now())
    heard = events.EVENTS

    assert all(any(name == pattern or name.startswith(pattern.rstrip("*")) for name in heard) for pattern in EVENTS)
    assert bus.calls == []


def test_an_endpoint_without_a_name_goes_by_its_address() -> None:
    """The name comes from the metadata, else from the address."""
    assert name_of(ONE) == "greeter-1"
    assert name_of(BARE) == "127.0.0.1:2"


def test_since_finds_the_tail() -> None:
    """Entries from an instant on, that instant included."""
    entries = [Mark(float(index), "act", "") for index in range(5)]

    assert since(entries, 3.0) == entries[3:]
    assert since(entries, 9.0) == []


def test_a_failure_tells_its_story_in_one_line() -> None:
    """What svcmesh knows of the call stands behind the message; line breaks do not break the line."""
    error = NoEndpoints("nobody\n  there")
    attach(error, CallInfo(attempts=2, endpoints=(ONE, BARE), reason="budget", elapsed=0.5))

    assert describe_failure(error) == (
        "NoEndpoints: nobody there [2 attempts in 0.50 s, asked greeter-1, 127.0.0.1:2, budget]"
    )
    assert describe_failure(ValueError()) == "ValueError: no message"
