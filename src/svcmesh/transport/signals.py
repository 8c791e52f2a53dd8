"""When the process is told to stop, something is done first, in the background, and the signal has its effect after it.

A handler of Python's runs on the main thread between any two of its instructions, with whatever locks that thread
holds: it may not wait, nor take a lock of ours or of gRPC's. So it only puts a word into a queue that allows just that,
and a thread that was started before does the work. Whoever handled the signal before gets it afterwards, on the main
thread as ever: uvicorn begins to stop, gunicorn's worker ends its loop, Python raises KeyboardInterrupt.
Source: the library reference on `queue.SimpleQueue.put`, and on `signal`, "Note on Signal Handlers and Exceptions".
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Thread, current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from svcmesh.core.errors import ConfigError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What supervisors and people send to a server that is to stop."""

_ASYNCIO = (
    "_sighandler_noop"  # the name of what asyncio installs: its loop is told by the operating system, not by this
)


_AGAIN = 0.05  # seconds in which a main thread that has got a signal runs its handler


class Leaving(Protocol):
    """What can be told to leave: a `Registration`."""

    def begin_to_leave(self) -> None:
        """Drain and leave in the background."""

    def deregister(self) -> None:
        """Drain and leave; return when that is done."""


class OnSignal:
    """Does ``work`` once, at the first of ``signals``; what `leave_on_signal` returns.

    It is in force until `close`, or to the end of its ``with`` block. A signal that was ignored stays so, and so do
    signals in forked children. Made on another thread than the main one, where Python does not allow it, it does
    nothing. Threads: any, but for that.

    Args:
        work: called on a thread of its own.
        signals: at which.
        hand_on: give the signal to whoever handled it before, after the work. At a second SIGINT, which is an impatient
            human's, that is done at once, in any case, and nobody waits for the work any more.

    Raises:
        RuntimeError: an asyncio loop handles one of them (``loop.add_signal_handler``): it cannot be made to wait.
    """

    def __init__(self, work: Callable[[], object], signals: Iterable[int], *, hand_on: bool) -> None:
        self._work = work
        self._hand_on = hand_on
        self._pid = os.getpid()
        self._told = False
        self._passed = False
        self._handed_over = False
        self._closed = False
        self._hurried = False
        self._word: SimpleQueue[int | None] = SimpleQueue()
        self._before: dict[int, Any] = {}
        self._thread: Thread | None = None
        if current_thread() is main_thread():
            self._before = {number: _handler(number) for number in signals if _is_ours_to_take(number)}
        if self._before:
            self._thread = Thread(target=self._run, name="svcmesh-signals", daemon=True)
            self._thread.start()
            for number in self._before:
                signal.signal(number, self._on_signal)

    def close(self) -> None:
        """Give the signals back; waits for work that has begun, unless a human is impatient. Harmless when repeated."""
        self._closed = True
        if current_thread() is main_thread():
            for number, handler in self._before.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, handler)
        if self._thread is not None and self._thread is not current_thread() and os.getpid() == self._pid:
            self._word.put(None)
            if not self._hurried:
                self._thread.join()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        handler = self._before.get(number)
        if self._closed or os.getpid() != self._pid:
            _pass_on(number, frame, handler)
        elif not self._told:
            self._told = True
            self._word.put(number)
        elif number == signal.SIGINT or self._passed:
            self._hurried = not self._passed
            self._passed = self._handed_over = True
            _pass_on(number, frame, handler)

    def _run(self) -> None:
        number = self._word.get()
        if number is None:
            return
        try:
            self._work()
        finally:
            if self._hand_on and not self._passed:
                self._passed = True
                self._hand_over(number)

    def _hand_over(self, number: int) -> None:
        """Send the signal to the main thread, where handlers run, and so may what they raise, until one has run.

        Once is not always enough: a signal that comes while the main thread is on its way from a handler back into a
        system call only leaves a note, and the call then sleeps on.
        """
        while not self._handed_over:
            signal.pthread_kill(main_thread().ident or 0, number)
            if self._closed:  # others handle it now, and would be told twice
                return
            time.sleep(_AGAIN)


def leave_on_signal(
    *registrations: Leaving, signals: Iterable[int] = STOP_SIGNALS, then: Callable[[], object] | None = None
) -> OnSignal:
    """Leave the registry before a signal to stop has its effect, so that nobody calls a server that has stopped.

    For servers that handle signals themselves (uvicorn, gunicorn) ask for it when the application starts, after they
    have: in the lifespan, in ``post_worker_init``. For gRPC servers see `svcmesh.grpc.serve_until_signal`.

    Args:
        registrations: what `Mesh.register` returned; they leave at the same time, which takes a second, at most five.
        signals: which. then: what to do instead of what the signal did before, on a thread of its own:
            ``server.shutdown``, for instance.

    Returns:
        What ends it: use it as a ``with`` block, or call its ``close()``.

    Raises:
        RuntimeError: an asyncio loop handles one of the signals: it cannot be made to wait.

    Threads: on another one than the main thread it does nothing, as there are no signals.
    """

    def work() -> None:
        leave(registrations)
        if then is not None:
            then()

    return OnSignal(work, signals, hand_on=then is None)


def leave(registrations: Iterable[Leaving]) -> None:
    """Leave all registries at the same time, and return when they know."""
    for registration in registrations:
        registration.begin_to_leave()
    for registration in registrations:
        registration.deregister()


def check_leaving(registrations: Iterable[object]) -> None:
    """Refuse what cannot leave.

    Raises:
        ConfigError: something that is no registration.
    """
    for given in registrations:
        if not (hasattr(given, "begin_to_leave") and hasattr(given, "deregister")):
            raise ConfigError(f"registrations must be what Mesh.register returned, not {given!r}")


def _is_ours_to_take(number: int) -> bool:
    handler = signal.getsignal(number)
    return handler is not None and handler is not signal.SIG_IGN


def _handler(number: int) -> Any:
    handler = signal.getsignal(number)
    if getattr(handler, "__name__", "") == _ASYNCIO:
        name = signal.Signals(number).name
        raise RuntimeError(
            f"an asyncio loop handles {name} (loop.add_signal_handler), and cannot be made to wait: call "
            "registration.deregister in that handler, or use svcmesh.grpc.aio_serve_until_signal"
        )
    return handler


def _pass_on(number: int, frame: FrameType | None, handler: Any) -> None:
    """Do what would have been done without us. Runs in a handler, on the main thread."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
