"""Messages that are noted under a lock and delivered outside it, in order.

Listeners and storages of users run arbitrary code and do I/O. Called under a breaker's lock, a slow one would stop
every thread that sees a failure, and one that raises would break the change of state that it was told of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

Deed = Callable[[], object]


class Relay:
    """A queue of deeds that one thread at a time carries out, in the order in which they were noted.

    Invariant: each deed is carried out once; a deed that raises is reported to ``on_error`` and harms no other.

    Threads: any. Whoever finds another thread delivering leaves its deeds to that one.
    """

    __slots__ = ("_busy", "_deeds", "_on_error")

    def __init__(self, on_error: Callable[[Exception], object]) -> None:
        self._deeds: deque[Deed] = deque()
        self._busy = Lock()
        self._on_error = on_error

    def note(self, deed: Deed) -> None:
        """Remember ``deed`` for the next `deliver`."""
        self._deeds.append(deed)

    @property
    def idle(self) -> bool:
        """Whether everything noted has been carried out."""
        return not self._deeds and not self._busy.locked()

    def deliver(self) -> None:
        """Carry out all that was noted. Call it without holding a lock."""
        # The look back at the queue is for deeds noted after the last one was taken but before the lock was free.
        while self._deeds and self._busy.acquire(blocking=False):
            try:
                self._carry_out()
            finally:
                self._busy.release()

    def _carry_out(self) -> None:
        while self._deeds:
            deed = self._deeds.popleft()
            try:
                deed()
            except Exception as error:  # noqa: BLE001 - user code; its error is theirs to see, not to break us
                self._on_error(error)
