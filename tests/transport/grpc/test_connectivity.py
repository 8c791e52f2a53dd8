"""The state of a channel with many connections, and who is told of it."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time

import grpc
import pytest
from grpc import ChannelConnectivity as State

from svcmesh.transport.grpc.connectivity import Subscriptions, aggregate, state_of
from tests.transport.grpc.kit import eventually


class Channel:
    """What is asked for its state."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.asked: list[bool] = []

    def look(self, try_to_connect: bool) -> State:
        self.asked.append(try_to_connect)
        return self.state


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
    channel, told = Channel(), []
    subscriptions = Subscriptions(channel.look)
    before = threading.active_count()
    subscriptions.add(told.append, True)
    eventually(lambda: told == [State.IDLE], "not told the first state")
    channel.state = State.READY
    eventually(lambda: told == [State.IDLE, State.READY], "not told the change")
    assert True in channel.asked

    subscriptions.remove(told.append)
    subscriptions.remove(told.append)
    eventually(lambda: threading.active_count() == before, "the thread goes on")
    subscriptions.clear()


def test_who_could_not_be_served_for_want_of_a_thread_may_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt leaves nothing behind that would be taken for a thread."""
    channel, told = Channel(), [State.SHUTDOWN]
    subscriptions = Subscriptions(channel.look)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            subscriptions.add(told.append, False)
    subscriptions.add(told.append, False)
    eventually(lambda: len(told) > 1, "nobody was told")
    subscriptions.clear()
    assert told == [State.SHUTDOWN, State.IDLE]


def test_a_callback_that_raises_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """In gRPC's words; the state that it was told is not told again."""

    def raises(state: State) -> None:
        raise ValueError("mine")

    channel, told = Channel(), []
    subscriptions = Subscriptions(channel.look)
    with caplog.at_level(logging.ERROR, "svcmesh.grpc"):
        subscriptions.add(raises, False)
        subscriptions.add(told.append, False)
        eventually(lambda: told == [State.IDLE], "the one after it was not told")
        channel.state = State.READY
        eventually(lambda: told == [State.IDLE, State.READY], "nobody is told any more")
    subscriptions.clear()

    assert [record.getMessage() for record in caplog.records] == [
        "Exception calling channel subscription callback!"
    ] * 2


def test_a_channel_that_somebody_has_subscribed_to_can_be_dropped() -> None:
    """Its thread ends by itself."""
    channel, told = Channel(), []
    subscriptions = Subscriptions(channel.look)
    subscriptions.add(told.append, True)
    eventually(lambda: told == [State.IDLE], "not told the first state")
    thread = subscriptions._thread
    assert thread is not None
    del channel
    gc.collect()

    eventually(lambda: not thread.is_alive(), "the thread goes on")
    assert subscriptions._wanted == []


def test_connections_are_made_as_long_as_somebody_is_there_who_wants_them() -> None:
    """Whoever comes after them does not."""
    channel, told = Channel(), []
    subscriptions = Subscriptions(channel.look)
    wants = told.append
    subscriptions.add(wants, True)
    eventually(lambda: True in channel.asked, "nothing was to be connected")
    subscriptions.remove(wants)
    subscriptions.add(lambda state: None, False)
    eventually(lambda: channel.asked[-1] is False, "it still connects")
    subscriptions.clear()


def test_nobody_who_closes_waits_for_a_callback() -> None:
    """It may take as long as it likes, and is not called again."""
    channel, let_go, told = Channel(), threading.Event(), []

    def slow(state: State) -> None:
        told.append(state)
        let_go.wait(30)

    subscriptions = Subscriptions(channel.look)
    subscriptions.add(slow, False)
    subscriptions.add(told.append, False)
    eventually(lambda: told == [State.IDLE], "not told")
    thread = subscriptions._thread
    assert thread is not None
    began = time.monotonic()
    subscriptions.clear()
    took = time.monotonic() - began
    let_go.set()
    thread.join(30)

    assert took < 10.0  # the callback takes thirty seconds
    assert told == [State.IDLE]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # since Python 3.12: threads are the point
def test_a_forked_child_begins_without_subscribers_and_with_a_thread_of_its_own() -> None:
    """Even where the thread of the parent held the lock at that moment."""
    channel, told = Channel(), []
    subscriptions = Subscriptions(channel.look)
    subscriptions.add(told.append, False)
    eventually(lambda: told == [State.IDLE], "not told")
    with subscriptions._lock:
        child = os.fork()
        if child == 0:  # a test that fails here must not go on as a second pytest
            news: list[State] = []
            subscriptions.add(news.append, False)
            until = time.monotonic() + 10
            while not news and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(0 if news == [State.IDLE] and len(subscriptions._wanted) == 1 else 1)
    _, status = os.waitpid(child, 0)
    subscriptions.clear()

    assert os.waitstatus_to_exitcode(status) == 0
