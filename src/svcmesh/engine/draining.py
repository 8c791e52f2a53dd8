"""Endpoints that have left: each is closed once the calls that are in flight on it have ended."""

from __future__ import annotations

from collections.abc import Iterable

from svcmesh.engine.member import Member
from svcmesh.engine.runtime import Runtime

QUICK_LOOK, LONG_LOOK, LONG_TIME = 0.25, 5.0, 30.0
"""Seconds between two looks at endpoints that left and are finishing their calls: at first, and after a long time."""


def drain(runtime: Runtime, draining: set[Member], left: Iterable[Member]) -> None:
    """Close what no call needs of those who ``left``, and all of it once their calls have ended.

    Calls may take as long as they like. ``draining`` holds them all, and loses each one that is closed.
    """
    _look(runtime, draining, list(left), runtime.clock.now() + LONG_TIME)


def _look(runtime: Runtime, draining: set[Member], left: list[Member], long: float) -> None:
    """Close who has no calls any more, and look again; ``long``: the instant from which that is done less often."""
    now = runtime.clock.now()
    waiting = [member for member in left if member.in_flight > 0]
    for member in left:
        if member not in waiting:
            draining.discard(member)
            member.close()
        else:
            member.close_idle()
    if waiting and not runtime.closed:
        again = now + (LONG_LOOK if now >= long else QUICK_LOOK)
        runtime.call_at(again, lambda: _look(runtime, draining, waiting, long))
