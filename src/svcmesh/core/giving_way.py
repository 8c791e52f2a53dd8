"""Long computations that let other threads run in between, sooner than they would have to.

A thread that computes keeps the interpreter until another one has asked for it for a whole switch interval, 5 ms. Where
it computes for a tenth of a second, whoever calls meanwhile waits so long again and again, and twice as long where two
threads compute. So it steps aside by itself, often, and for as long as one that waits takes to wake up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import sleep  # noqa: TID251 - no time passes in it that anybody goes by
from typing import TypeVar

OFTEN = 1024
"""Steps between two rests. They are of one to three microseconds each."""

REST = 5e-5
"""Seconds. With none at all the interpreter would be taken back before anybody is awake."""

T = TypeVar("T")


def giving_way(steps: Iterable[T]) -> Iterator[T]:
    """Yield the steps of a long computation, with a rest after every 1,024 of them. Threads: any.

    Cost: some 40 nanoseconds a step, and a tenth of a millisecond a rest.
    """
    left = OFTEN
    for step in steps:
        yield step
        left -= 1
        if not left:
            left = OFTEN
            sleep(REST)
