"""Work that may block, done beside the worker: by one thread, which is there only while there is something to do.

A disk may hang for as long as it likes, and what is large takes the interpreter for long. The worker has heartbeats to
send meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock, Thread, current_thread


class Aside:
    """Does jobs one after the other on a thread of its own. Threads: any may ask.

    Invariant: there is a thread if and only if there is a job, waiting or under way. It is a daemon, since what
    it does may never end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._jobs: dict[Hashable, Callable[[], object]] = {}
        self._thread: Thread | None = None

    def run(self, key: Hashable, job: Callable[[], object]) -> None:
        """Do ``job`` soon; one that waits under the same key is not wanted any more. A job may raise nothing."""
        with self._lock:
            self._jobs[key] = job
            if self._thread is not None:
                return
            self._thread = thread = Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, or has no thread left: what is lost is lost
                self._thread = None

    def join(self, timeout: float) -> None:
        """Wait until all is done, at most ``timeout`` seconds; not on its own thread."""
        thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join(timeout)

    def reset_after_fork(self) -> None:
        """Forget the parent's thread and its jobs: it does them itself."""
        self._lock = Lock()
        self._jobs = {}
        self._thread = None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.pop(next(iter(self._jobs)))
            job()
