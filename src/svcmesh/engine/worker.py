"""The one quiet thread of a mesh: a daemon with an asyncio loop, for watches, heartbeats, probes and timers.

It starts when something first needs it, sleeps in the selector while nothing is due, and ends with the mesh. A forked
child does not inherit threads, so it begins with none and starts its own at need.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_inherited: list[object] = []
"""Loops of threads that a fork left behind, and their tasks. Their selector is shared with the parent's: closing it
would wake nobody there any more, so they are kept as they are."""


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
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def current(self) -> bool:
        """Whether the caller is on this thread, where nothing may wait for what the thread has to do."""
        return self._thread is threading.current_thread()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Run ``coroutine`` on the worker; its future can be cancelled from any thread. None once closed.

        Raises:
            OSError, RuntimeError: the system has no file or no thread left to start it with; the next time it may.
        """
        submitted: Future[T] | None = None
        try:
            with self._lock:
                loop = self._started()
                if loop is not None:
                    submitted = asyncio.run_coroutine_threadsafe(coroutine, loop)
        finally:
            if submitted is None:
                coroutine.close()
        return submitted

    def call(self, callback: Callable[[asyncio.AbstractEventLoop], object]) -> bool:
        """Run ``callback`` soon on the worker, with its loop as argument; False once closed: nothing happens then."""
        with self._lock:
            loop = self._started()
            if loop is not None:
                loop.call_soon_threadsafe(callback, loop)
            return loop is not None

    def close(self) -> None:
        """Have everything cancelled and the thread ended. Waits for nothing: a garbage collection may call it."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)

    def join(self, timeout: float = 5.0) -> None:
        """Wait until a closed worker has cleaned up, at most ``timeout`` seconds; not on its own thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def reset_after_fork(self) -> None:
        """Forget the parent's thread and loop: neither runs in this process."""
        self._lock = threading.RLock()
        if self._loop is not None:
            tasks: set[Any] = asyncio.all_tasks(self._loop)
            for task in tasks:
                task._log_destroy_pending = False  # noqa: SLF001 - asyncio's own way to say that nobody waits for it
            _inherited.extend([self._loop, *tasks])
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is None and not self._closed:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
            try:
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, thread
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_end_tasks(loop))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())  # somebody's discovery may have used it
    finally:
        loop.close()


async def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all tasks, each once, and wait for them.

    One that has not begun is let begin first: libraries wrap what they run, and a wrapper that is cancelled before it
    begins never awaits what it holds (anyio's, while a connection is made).
    """
    cancelled: set[asyncio.Task[Any]] = set()
    while tasks := asyncio.all_tasks(loop) - {asyncio.current_task()}:
        for task in tasks - cancelled:
            coroutine = task.get_coro()
            if not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                task.cancel()
                cancelled.add(task)
        await asyncio.wait(tasks, timeout=None if tasks <= cancelled else 0, return_when=asyncio.FIRST_COMPLETED)
