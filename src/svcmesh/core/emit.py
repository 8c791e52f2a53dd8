"""How a room that knows no listeners says that something happened.

Backends and registrars sit below the events of `observe`. They are handed this callable, and so need to know neither
the event types nor whether anybody listens.
"""

from __future__ import annotations

from typing import Any, Protocol


class Emit(Protocol):
    """Report the event ``name`` about ``service`` (empty: about the mesh) with the fields of its type."""

    def __call__(self, name: str, service: str, **fields: Any) -> object:
        """Report it; never raises, never blocks. Threads: any."""


def silent(name: str, service: str, **fields: Any) -> None:
    """Report nothing: the `Emit` of code that is used on its own."""
