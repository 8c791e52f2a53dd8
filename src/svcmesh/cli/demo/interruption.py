"""Being told to end, once: the first signal becomes an exception, and cleaning up is not disturbed by a second one."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask to end: Ctrl-C, a supervisor, a terminal that was closed."""


class Interrupted(BaseException):
    """The demo was told to end by a signal; no failure, so nothing that handles errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status by which shells know of it."""
        return 128 + self.number


class Interruptible:
    """A block in which the first ending signal raises `Interrupted`, until `hush`. Main thread only."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._told: int | None = None

    def hush(self) -> None:
        """Ignore such signals from now on: what follows is short, and must be done to its end."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def heed(self) -> None:
        """Raise once more what was raised where exceptions are lost: in finalizers, and in callbacks of imports."""
        if self._told is not None:
            raise Interrupted(self._told)

    def __enter__(self) -> Self:
        """Begin to listen."""
        for number in ENDING:
            self._before[number] = before = signal.getsignal(number)
            if number is not signal.SIGHUP or before is not signal.SIG_IGN:  # under nohup a hang-up is to be survived
                signal.signal(number, self._raise)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Handle signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _: FrameType | None) -> None:
        self.hush()
        self._told = number
        raise Interrupted(number)
