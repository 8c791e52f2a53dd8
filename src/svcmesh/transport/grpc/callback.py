"""The user's done callbacks: one that raises keeps neither others from being called nor the call from ending."""

from __future__ import annotations

import logging
from collections.abc import Callable

_LOGGER = logging.getLogger("svcmesh.grpc")


def guarded(callback: Callable[[], object]) -> Callable[[], None]:
    """Return ``callback`` with its exceptions logged."""

    def call() -> None:
        try:
            callback()
        except Exception:
            _LOGGER.exception("Exception in callback of an RPC")

    return call
