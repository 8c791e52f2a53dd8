"""After a fork, the child has the parent's sockets: it must not write to them, and it must not wait for their locks."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Something with connections."""

    def forget(self) -> None:
        """Drop all connections without a word to the other side."""


_open: WeakSet[Forgetful] = WeakSet()


def forget_after_fork(thing: Forgetful) -> None:
    """Have ``thing`` forget its connections in every child that is forked from now on, as long as there is one."""
    _open.add(thing)


def _forget() -> None:
    for thing in list(_open):
        thing.forget()


os.register_at_fork(after_in_child=_forget)
