"""Candidates drawn together, prepared in advance: what makes a choice of two cheaper than drawing one.

Drawing two different endpoints takes two random numbers and some arithmetic, more than all the rest of a pick. Here
the draws are made ahead, as laps: lists walked in step by one C iterator. They are stratified. They consist of rounds,
and in each round every endpoint is the first candidate once, the second once, and so on; who meets whom changes from
round to round. So shares are even not only on average, but over every few calls.

A prepared sequence must not fall into step with its caller. Somebody who makes every tenth call a heavy one would, on
a table that repeats, always offer the heavy ones to the same few endpoints. So nothing repeats:

- With few endpoints there is a table of rounds over an order drawn at random, and every lap enters it at a point
  drawn anew. Where it has no room for all pairs, or for all groups of three and more, every lap also gives the first
  candidates of one round other partners: an endpoint that met the same few for ever would have a share by what these
  are worth.
- With many, every round is made anew, in the order of the list: a random start, and partners at a distance that
  changes. Each lap is a block of it, which is at hand when it is walked (`svcmesh.balance.blocks`). Building takes two
  copies of the list, which counts where thousands of endpoints change ten times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil, gcd
from typing import TypeVar

from svcmesh.balance.blocks import BLOCK, MANY, blocks
from svcmesh.balance.picker import Rng

ROUNDS = 24  # in the table of those who are few: one round of theirs is too short to be worth making anew
LONG = BLOCK  # candidates in a lap, at least: beginning one costs a microsecond, which so many calls share

T = TypeVar("T")

Lap = Iterator[tuple[T, ...]]
"""The next candidates, until the lap is over. `next` is asked for them: its bound form costs a quarter more."""

Round = list[list[T]]
"""First candidates, second candidates, and so on."""

Begins = Callable[[], list[int]]
"""Draw where a round begins for the first candidates, for the second ones, and so on."""

Distances = Callable[[], list[int]]
"""Draw how far from the first candidates of a round the second ones are, the third ones, and so on."""


def laps(
    cells: Sequence[T],
    rng: Rng,
    together: int,
    *,
    beside: Sequence[Sequence[object]] = (),
    of_first: Sequence[object] = (),
) -> Callable[[], Lap[T]]:
    """Return a function that starts a new lap on each call.

    Args:
        cells: at least ``together`` of them, or of what stands for them.
        rng: draws where rounds and laps begin and, with few cells, their order.
        together: how many different cells are drawn at a time, at least 2.
        beside: lists of what else is read of each candidate, in the order of cells; where these are many, it is to be
            at hand, too.
        of_first: what else is read of the first candidate.

    Threads: any; a lap can be shared, since a step of zip() over lists is one C call. Of two that both begin a round,
    with many cells, one loses the rest of it.
    """
    size = len(cells)
    distances = _distances(size, rng, together)
    begins = _begins(size, rng, distances)
    if size >= MANY:
        return _by_blocks(cells, begins, beside, of_first)
    order = sorted(cells, key=lambda _: rng.random())
    pairs = together == 2 and size - 1 <= ROUNDS
    rounds = _all_pairs(size, begins) if pairs else [begins() for _ in range(max(ROUNDS, ceil(LONG / size)))]
    table = _table(order + order, rounds)
    new_lap = _through(table, rng)
    return new_lap if pairs else _renewed(new_lap, table, order + order, [firsts for firsts, *_ in rounds], distances)


def _by_blocks(
    cells: Sequence[T], begins: Begins, beside: Sequence[Sequence[object]], of_first: Sequence[object]
) -> Callable[[], Lap[T]]:
    """Return a function that starts laps which are the blocks of a round, and after the last of them a new round."""
    size, twice = len(cells), [*cells, *cells]
    parts = blocks(size)
    this_round = [0], iter(parts[:0])  # over: none has begun

    def lap() -> Lap[T]:
        nonlocal this_round
        places, rest = this_round
        part = next(rest, None)
        if part is None:
            places, rest = begins(), iter(parts)
            part = next(rest)
            this_round = places, rest
        length = part.stop - part.start
        starts = [(place + part.start) % size for place in places]
        for objects in beside:
            _ = [objects[start : start + length] for start in starts]
        _ = of_first[starts[0] : starts[0] + length]
        return zip(*[twice[start : start + length] for start in starts], strict=False)

    return lap


def _through(table: Round[T], rng: Rng) -> Callable[[], Lap[T]]:
    """Return a function that starts laps through a table, each at a random point."""
    random, length = rng.random, len(table[0])

    def lap() -> Lap[T]:
        start = int(random() * length)
        columns = [column[start:] for column in table]
        for passed, column in zip(columns, table, strict=True):
            passed.extend(column[:start])
        return zip(*columns, strict=False)

    return lap


def _renewed(
    new_lap: Callable[[], Lap[T]], table: Round[T], twice: list[T], firsts: list[int], distances: Distances
) -> Callable[[], Lap[T]]:
    """Return a function that starts laps, and before each of them draws the partners of one round anew.

    Args:
        new_lap: starts one. table: what it goes through. twice: all, in their order, two times.
        firsts: where each round begins in it for the first candidates. distances: draws where their partners are.

    Threads: any; to change a column is one C call. Who begins a lap between two of them may have somebody twice in a
    group of three or more, which is compared with itself.
    """
    size, turn = len(twice) // 2, count().__next__

    def lap() -> Lap[T]:
        part = turn() % len(firsts)
        for column, distance in zip(table[1:], distances(), strict=True):
            begin = (firsts[part] + distance) % size
            column[part * size : (part + 1) * size] = twice[begin : begin + size]
        return new_lap()

    return lap


def _all_pairs(size: int, begins: Begins) -> list[list[int]]:
    """Draw where the rounds of a table begin in which every pair of a few cells meets equally often."""
    meetings = size - 1
    return [begins() for _ in range(meetings * ceil(ROUNDS / meetings))]


def _table(twice: list[T], rounds: list[list[int]]) -> Round[T]:
    """Return rounds as one, long enough for a lap."""
    size = len(twice) // 2
    columns = [
        [cell for place in places for cell in twice[place : place + size]] for places in zip(*rounds, strict=True)
    ]
    return [column * ceil(LONG / len(column)) for column in columns]


def _begins(size: int, rng: Rng, distances: Distances) -> Begins:
    """Return a function that draws rounds: rotations of one order, so that no cell ever meets itself."""

    def begins() -> list[int]:
        start = int(rng.random() * size)
        return [start] + [(start + distance) % size for distance in distances()]

    return begins


def _distances(size: int, rng: Rng, together: int) -> Distances:
    """Return a function that draws different distances: the first by turns, the others at random.

    By turns they would always come in the same groups, and with an odd number of cells half of them in each place.
    """
    shift = _shifts(size, rng)

    def distances() -> list[int]:
        moved: dict[int, int] = {}  # a shuffle of all distances, as far as it is needed
        found: list[int] = []
        for place in range(1, together):
            drawn = shift() if place == 1 else place + int(rng.random() * (size - place))
            found.append(moved.get(drawn, drawn))
            moved[drawn] = moved.get(place, place)
        return found

    return distances


def _shifts(size: int, rng: Rng) -> Callable[[], int]:
    """Return a function that returns numbers from 1 to ``size - 1``, all of them before any comes again."""
    steps = size - 1
    stride = max(1, round(steps * 0.618))  # near the golden section, multiples are spread most evenly
    while gcd(stride, steps) != 1:
        stride += 1
    turn = count(int(rng.random() * steps)).__next__
    return lambda: 1 + turn() * stride % steps
