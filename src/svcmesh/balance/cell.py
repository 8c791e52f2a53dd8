"""The live counts of one endpoint, shared by every picker over it.

A picker is rebuilt at each change of the endpoints; what it weighs must outlive it, so the counts live here. They
only ever grow: the number in flight is the difference of two totals, and so is everything that breakers and
ejection want to know of successes, which therefore costs the success path nothing.
"""

from __future__ import annotations

from typing import Any

from svcmesh.core.endpoint import Endpoint


class _Often:
    """What picks and calls read of every cell they meet.

    The slots of a base come first, and so these are where the count of references is: of thousands of cells most are
    in no cache, and each line of memory is one more to wait for.
    """

    __slots__ = ("finished", "owner", "started")


class Cell(_Often):
    """Totals of one endpoint.

    Attributes:
        endpoint: the endpoint as its newest snapshot describes it.
        started: attempts ever started. finished: attempts ever ended, whatever the end.
        kept: what pickers have learnt of it, by their configuration; it stays when they are rebuilt.
        owner: which picker it was made for, if somebody asked for a picker without a mesh (`Configuration.picker`);
            None in the engine, where many pickers share a cell.
        learnt: a shortcut to what that one picker has in ``kept``, if anything.

    Invariant: ``finished <= started``, and they are equal when nothing is in flight.

    Threads: ``cell.started += 1`` loses no update on a CPython with the GIL. From 3.10 on, 3.12 and 3.13 included, the
    interpreter gives the GIL up at calls, at backward jumps and where a function begins or a generator goes on, and
    between this load and this store is none of them (ceval.c, CHECK_EVAL_BREAKER; since 3.13 bytecodes.c,
    _CHECK_PERIODIC). The language promises nothing of the kind: on a free-threaded build counts are lost, which is why
    svcmesh does not support one, and a debugger that traces single opcodes may lose some, too.
    """

    __slots__ = ("endpoint", "kept", "learnt")

    def __init__(self, endpoint: Endpoint, owner: object = None) -> None:
        self.started = 0
        self.finished = 0
        self.owner = owner
        self.endpoint = endpoint
        self.learnt: Any = None
        self.kept: dict[object, Any] = {}

    @property
    def in_flight(self) -> int:
        """Attempts that have started and not ended. Pickers inline this."""
        return self.started - self.finished
