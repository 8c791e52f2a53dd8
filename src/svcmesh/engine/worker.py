"""The one quiet thread of a mesh: a daemon with an asyncio loop, for watches, heartbeats, probes and timers.

It starts when something first needs it, sleeps in the selector while nothing is due, and ends with the mesh. A forked
child does not inherit threads, so it begins with none and starts its own at need.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs coroutines and timers on a thread of its own. Threads: any may call it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()  # a mesh may be collected, and so closed, in the middle of anything
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether the thread has been started."""
        return self._thread is not None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Run ``coroutine`` on the worker; its future can be cancelled from any thread. None once closed."""
        loop = self._started()
        if loop is None:
            coroutine.close()
            return None
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def call(self, callback: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        """Run ``callback`` soon on the worker, with its loop as argument; nothing happens once closed."""
        loop = self._started()
        if loop is not None:
            loop.call_soon_threadsafe(callback, loop)

    def close(self, timeout: float = 5.0) -> None:
        """Cancel everything, let it clean up, and join the thread for at most ``timeout`` seconds."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def reset_after_fork(self) -> None:
        """Forget the parent's thread and loop: neither exists in this process."""
        self._lock = threading.RLock()  # a mesh may be collected, and so closed, in the middle of anything
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop | None:
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None and not self._closed:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
