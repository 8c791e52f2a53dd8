"""The calls of one asyncio channel that are under way, for those who close it."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any


class Running:
    """Calls under way. Threads: each loop adds and removes its own; any may look.

    A stream that its caller has dropped is over, so those are kept weakly. A unary call goes on: it is kept until its
    end, which costs a tenth of what a weak reference costs; but not longer than its loop, which may end before it.
    """

    def __init__(self) -> None:
        self._weak: weakref.WeakSet[Any] = weakref.WeakSet()
        self._kept: dict[asyncio.AbstractEventLoop, set[Any]] = {}

    def add(self, call: Any) -> None:
        """Take note of a call that may be dropped."""
        self._weak.add(call)

    def on(self, loop: asyncio.AbstractEventLoop) -> set[Any]:
        """Return the set in which calls on ``loop``, which is running, are kept; they remove themselves."""
        found = self._kept.get(loop)
        if found is None:
            for ended in [other for other in list(self._kept) if other.is_closed()]:
                self._kept.pop(ended, None)
            found = self._kept[loop] = set()
        return found

    def all(self) -> list[Any]:
        """Return all that are not over."""
        kept = {call for calls in list(self._kept.values()) for call in list(calls)}
        return [call for call in {*self._weak, *kept} if not call.done()]
