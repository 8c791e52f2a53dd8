"""Whose turn it is to take a slot of a Maglev table, by weight: Envoy's order, at a cost that follows the slots.

In round ``r`` all take one, in the order of the list, whose ``r * share`` has come up to what they have taken so far;
each slot counts as much as the largest share. Envoy asks everybody in every round, which is slots times endpoints where
one is heavy and the others are light. Here whoever has taken a slot is put down for the round of the next one.

The table is Envoy's only while each sum and product is the one that Envoy makes, rounded as its floats are. So the
division by which a round is looked up is a guess, and the comparison decides.

Source: Envoy, maglev_lb.cc.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, islice


def turns(shares: Sequence[float], slots: int) -> Iterator[int]:
    """Yield for each of ``slots`` who takes it, as a place in ``shares``.

    The largest share has a turn in every round, so there are no more rounds than slots.

    Cost: O(1) for each slot, besides the sorting of those who have their turn in the same round.
    """
    most = max(shares)
    if most == min(shares):  # whatever is rounded is so for all
        yield from islice(cycle(range(len(shares))), slots)
        return
    taken = [0.0] * len(shares)
    due: defaultdict[int, list[int]] = defaultdict(list, {1: list(range(len(shares)))})
    left = slots
    for following in range(2, slots + 2):
        takers = sorted(due.pop(following - 1))[:left]
        left -= len(takers)
        next_round = due[following]
        for number in takers:
            yield number
            taken[number] = target = taken[number] + most
            share = shares[number]
            if following * share >= target:
                next_round.append(number)
            elif (later := _round(target, share, following, slots)) is not None:
                due[later].append(number)
        if not left:
            return


def _round(target: float, share: float, missed: int, last: int) -> int | None:
    """Return the first round after ``missed`` whose product comes up to ``target``; None: far past ``last``."""
    if not share or target / share > last + 1:
        return None
    found = max(int(target / share), missed + 1)
    while found * share < target:
        found += 1
    while found - 1 > missed and (found - 1) * share >= target:
        found -= 1
    return found
