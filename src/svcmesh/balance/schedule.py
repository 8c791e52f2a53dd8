"""Candidates drawn together, prepared in advance: what makes a choice of two cheaper than drawing one.

Drawing two different endpoints takes two random numbers and some arithmetic, more than all the rest of a pick. Here
the draws are made ahead, as laps: lists walked in step by one C iterator. Each lap is stratified. It consists of
rounds, and in each round every endpoint is the first candidate once, the second once, and so on; who meets whom
changes from round to round. So shares are even not only on average, but over every few calls.

A prepared sequence must not fall into step with its caller. Somebody who makes every tenth call a heavy one would, on
a table that repeats, always offer the heavy ones to the same few endpoints. So nothing repeats:

- With few endpoints there is a table of rounds over an order drawn at random, and every lap enters it at a point
  drawn anew.
- With many, every lap is one round made anew: a random start, and partners at a distance that changes. The order is
  that of the list, for what is near in the list is near in memory: with 10,000 endpoints a pick in random order waits
  for memory as long as it computes. Building takes two copies of the list, which counts where thousands of endpoints
  change ten times a second; a lap takes as much, a few nanoseconds for each of its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil, gcd
from typing import TypeVar

from svcmesh.balance.picker import Rng

FEW = 256  # fewer endpoints than this: one round is too short to be worth making anew, so rounds are kept in a table
ROUNDS = 24  # of them in such a table, about
LONG = 256  # candidates in a lap, at least: beginning one costs a microsecond, which so many calls share

T = TypeVar("T")

Lap = Iterator[tuple[T, ...]]
"""The next candidates, until the lap is over. `next` is asked for them: its bound form costs a quarter more."""

Round = list[list[T]]
"""First candidates, second candidates, and so on."""


def laps(cells: Sequence[T], rng: Rng, together: int) -> Callable[[], Lap[T]]:
    """Return a function that starts a new lap on each call.

    Args:
        cells: at least ``together`` of them, or of what stands for them.
        rng: draws where each lap begins and, with few cells, their order.
        together: how many different cells are drawn at a time, at least 2.

    Threads: any; a lap can be shared, since a step of zip() over lists is one C call.
    """
    new_round = _rounds(cells, rng, together)
    if len(cells) >= FEW:
        return lambda: zip(*new_round(), strict=False)
    table = _table(new_round, len(cells))
    random, length = rng.random, len(table[0])

    def lap() -> Lap[T]:
        start = int(random() * length)
        return zip(*[column[start:] + column[:start] for column in table], strict=False)

    return lap


def _table(new_round: Callable[[], Round[T]], size: int) -> Round[T]:
    """Return many rounds as one; with few cells every pair of them meets equally often in it."""
    meetings = min(size - 1, ROUNDS)
    rounds = [new_round() for _ in range(meetings * ceil(ROUNDS / meetings))]
    columns = [[cell for part in parts for cell in part] for parts in zip(*rounds, strict=True)]
    return [column * ceil(LONG / len(column)) for column in columns]


def _rounds(cells: Sequence[T], rng: Rng, together: int) -> Callable[[], Round[T]]:
    """Return a function that makes rounds: rotations of one order, so that no cell ever meets itself."""
    size = len(cells)
    order = list(cells) if size >= FEW else sorted(cells, key=lambda _: rng.random())
    twice = order + order
    shift = _shifts(size, rng)

    def new_round() -> Round[T]:
        start = int(rng.random() * size)
        begins = [start] + [(start + shift()) % size for _ in range(together - 1)]
        return [twice[begin : begin + size] for begin in begins]

    return new_round


def _shifts(size: int, rng: Rng) -> Callable[[], int]:
    """Return a function that returns numbers from 1 to ``size - 1``, all of them before any comes again."""
    steps = size - 1
    stride = max(1, round(steps * 0.618))  # near the golden section, multiples are spread most evenly
    while gcd(stride, steps) != 1:
        stride += 1
    turn = count(int(rng.random() * steps)).__next__
    return lambda: 1 + turn() * stride % steps
