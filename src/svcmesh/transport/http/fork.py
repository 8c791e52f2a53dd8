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


def forget_after_fork(transport: Forgetful) -> None:
    """Have ``transport`` forget its connections in every child that is forked from now on."""
    _open.add(transport)


def _forget() -> None:
    for transport in list(_open):
        transport.forget()


os.register_at_fork(after_in_child=_forget)
