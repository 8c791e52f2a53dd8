"""The state of a channel with many connections, and who is told of it."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest
from grpc import ChannelConnectivity as State

from svcmesh.transport.grpc.connectivity import Subscriptions, aggregate, state_of
from tests.transport.grpc.kit import eventually


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], State.IDLE),
        ([State.TRANSIENT_FAILURE], State.TRANSIENT_FAILURE),
        ([State.TRANSIENT_FAILURE, State.IDLE], State.IDLE),
        ([State.IDLE, State.CONNECTING, State.TRANSIENT_FAILURE], State.CONNECTING),
        ([State.TRANSIENT_FAILURE, State.READY, State.CONNECTING], State.READY),
    ],
)
def test_the_best_connection_counts(states: list[State], expected: State) -> None:
    """One that is ready is enough."""
    assert aggregate(states) is expected


def test_a_channel_that_hides_its_state_counts_as_idle() -> None:
    """The look is private to gRPC, and may go away."""
    assert state_of(object(), False) is State.IDLE


def test_a_closed_channel_is_shut_down() -> None:
    """GRPC raises a ValueError instead, which nobody expects of a look."""
    channel = grpc.insecure_channel("ipv4:127.0.0.1:1")
    channel.close()

    assert state_of(channel, False) is State.SHUTDOWN


def test_subscribers_are_told_the_state_and_its_changes_until_they_leave() -> None:
    """Each change once; a thread exists only while somebody listens."""
    state, asked, told = [State.IDLE], [], []

    def look(try_to_connect: bool) -> Any:
        asked.append(try_to_connect)
        return state[0]

    subscriptions = Subscriptions(look)
    before = threading.active_count()
    subscriptions.add(told.append, True)
    eventually(lambda: told == [State.IDLE], "not told the first state")
    state[0] = State.READY
    eventually(lambda: told == [State.IDLE, State.READY], "not told the change")
    assert True in asked

    subscriptions.remove(told.append)
    subscriptions.remove(told.append)
    eventually(lambda: threading.active_count() == before, "the thread goes on")
    subscriptions.clear()
