"""What can never end any more and does not say so; it counts as in flight until somebody looks.

A loop may be closed, and a task cancelled before its first step, with calls open that nobody tells of it. Watching for
that would cost every call. So transports take note of what is open, and go through their notes when somebody wants to
know the state.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary


class Notes(Protocol):
    """What a transport knows of calls that are open."""

    def settle(self) -> object:
        """Count as ended what can never end any more. Any thread."""


class Leftovers:
    """The notes of all transports of one mesh. Threads: any."""

    def __init__(self) -> None:
        self._notes: WeakValueDictionary[int, Notes] = WeakValueDictionary()

    def add(self, notes: Notes) -> None:
        """Have ``notes`` asked from now on, as long as somebody else refers to them."""
        self._notes[id(notes)] = notes

    def settle(self) -> None:
        """Count as ended whatever can never end any more."""
        for found in self._notes.valuerefs():
            notes = found()
            if notes is not None:
                notes.settle()
