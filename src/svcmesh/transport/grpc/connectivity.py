"""The state of a channel that has many connections: ready if one of them is.

Stock channels report their state by a polling thread each, which at a thousand endpoints is a thousand threads and
two fifths of a core. So nothing is watched while nobody has subscribed, and then one thread asks all of them in turn.
It holds the channel weakly, and ends with it. A forked child has neither the thread nor the subscribers of its parent.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakMethod

import grpc

PERIOD = 0.1
"""Seconds between looks while somebody is subscribed."""

CALLBACK_RAISED = "Exception calling channel subscription callback!"
"""What gRPC logs then."""

_LOGGER = logging.getLogger("svcmesh.grpc")
_LOOK = "check_connectivity_state"
Callback = Callable[[grpc.ChannelConnectivity], object]
_ORDER = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
)


def aggregate(states: Iterable[grpc.ChannelConnectivity]) -> grpc.ChannelConnectivity:
    """Return the best of ``states``; IDLE when there is none, since a call would begin to connect."""
    found = set(states)
    return next((state for state in _ORDER if state in found), grpc.ChannelConnectivity.IDLE)


def state_of(channel: Any, try_to_connect: bool) -> grpc.ChannelConnectivity:
    """Return the state of a stock sync channel without the thread that subscribing costs.

    The look is a private method of gRPC; where it is missing, the channel counts as idle.
    """
    inner = channel
    while not hasattr(inner, _LOOK):
        inner = getattr(inner, "_channel", None)  # what `grpc.intercept_channel` returns keeps the channel there, too
        if inner is None:
            return grpc.ChannelConnectivity.IDLE
    try:
        number = getattr(inner, _LOOK)(try_to_connect)
    except ValueError:  # it has been closed
        return grpc.ChannelConnectivity.SHUTDOWN
    return next((s for s in grpc.ChannelConnectivity if s.value[0] == number), grpc.ChannelConnectivity.SHUTDOWN)


class Subscriber:
    """Somebody who wants to know the state of a channel.

    Attributes:
        callback: takes the state. connect: whether it wants a connection to be made. told: what it was told last.
    """

    __slots__ = ("callback", "connect", "told")

    def __init__(self, callback: Callback, *, connect: bool) -> None:
        self.callback = callback
        self.connect = connect
        self.told: grpc.ChannelConnectivity | None = None

    def tell(self, state: grpc.ChannelConnectivity) -> None:
        """Report ``state``; what the callback raises is logged, as gRPC does."""
        self.told = state
        try:
            self.callback(state)
        except Exception:
            _LOGGER.exception(CALLBACK_RAISED)


class Subscriptions:
    """Who wants to know the state of one mesh channel. Threads: any.

    Args:
        look: a method of the channel, which is held weakly: returns the state now; its argument says whether to begin
            to connect.
    """

    def __init__(self, look: Callable[[bool], grpc.ChannelConnectivity]) -> None:
        self._look = WeakMethod(look)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wanted: list[Subscriber] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._telling = False

    def _begin_in_child(self) -> None:
        """Begin anew in a forked child: the thread is the parent's, and it may have held the lock."""
        if self._pid != os.getpid():
            self._begin()

    def add(self, callback: Callback, try_to_connect: bool | None) -> None:
        """Report the state to ``callback``, now and at each change, from a thread of ours."""
        self._begin_in_child()
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="svcmesh-connectivity", daemon=True)
                thread.start()  # which may fail; it waits for the lock first of all
                self._thread = thread
            self._wanted.append(Subscriber(callback, connect=bool(try_to_connect)))
        self._wake.set()

    def remove(self, callback: Callback) -> None:
        """Stop reporting to ``callback``; harmless when it was not added."""
        self._begin_in_child()
        with self._lock:
            index = next((i for i, wanted in enumerate(self._wanted) if wanted.callback == callback), None)
            if index is not None:
                del self._wanted[index]
        self._wake.set()

    def clear(self) -> None:
        """Stop reporting to anybody, and wait for the thread to end, unless a callback keeps it."""
        self._begin_in_child()
        with self._lock:
            self._wanted.clear()
            thread = None if self._telling else self._thread
        self._wake.set()
        if thread is not None:
            thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._lock:
                look = self._look()
                if look is None:  # nobody refers to the channel any more
                    self._wanted.clear()
                wanted, connect = list(self._wanted), any(subscriber.connect for subscriber in self._wanted)
                if look is None or not wanted:
                    self._thread = None
                    return
                self._wake.clear()
            state = look(connect)
            del look
            for subscriber in wanted:
                self._report(subscriber, state)
            del wanted[:]
            self._wake.wait(PERIOD)

    def _report(self, subscriber: Subscriber, state: grpc.ChannelConnectivity) -> None:
        """Tell a subscriber that has not left meanwhile, if there is news."""
        with self._lock:
            self._telling = subscriber in self._wanted and subscriber.told is not state
        if self._telling:
            subscriber.tell(state)
            self._telling = False
