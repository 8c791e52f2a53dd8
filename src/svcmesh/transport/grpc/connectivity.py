"""The state of a channel that has many connections: ready if one of them is.

Stock channels report their state by a polling thread each, which at a thousand endpoints is a thousand threads and
two fifths of a core. So nothing is watched while nobody has subscribed, and then one thread asks all of them in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc

PERIOD = 0.1
"""Seconds between looks while somebody is subscribed."""

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


class Subscriptions:
    """Who wants to know the state of one mesh channel. Threads: any.

    Args:
        look: returns the state now; its argument says whether to begin to connect.
    """

    def __init__(self, look: Callable[[bool], grpc.ChannelConnectivity]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._wanted: list[tuple[Callback, list[grpc.ChannelConnectivity | None]]] = []
        self._connect = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, callback: Callback, try_to_connect: bool | None) -> None:
        """Report the state to ``callback``, now and at each change, from a thread of ours."""
        with self._lock:
            self._wanted.append((callback, [None]))
            self._connect = self._connect or bool(try_to_connect)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="svcmesh-connectivity", daemon=True)
                self._thread.start()
        self._wake.set()

    def remove(self, callback: Callback) -> None:
        """Stop reporting to ``callback``; harmless when it was not added."""
        with self._lock:
            index = next((i for i, (wanted, _) in enumerate(self._wanted) if wanted == callback), None)
            if index is not None:
                del self._wanted[index]
        self._wake.set()

    def clear(self) -> None:
        """Stop reporting to anybody, and wait for the thread to end."""
        with self._lock:
            self._wanted.clear()
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._lock:
                wanted, connect = list(self._wanted), self._connect
                if not wanted:
                    self._thread = None
                    return
                self._wake.clear()
            state = self._look(connect)
            for callback, told in wanted:
                if told[0] is not state:
                    told[0] = state
                    callback(state)
            self._wake.wait(PERIOD)
