"""Random: shares follow the weights, and nothing else matters."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from svcmesh import Endpoint
from svcmesh.balance import Random
from tests.balance.shares import chi_square, critical


@pytest.mark.parametrize(
    "weights",
    [[1] * 3, [1] * 50, [1, 2, 3, 4], [0.1, 0.1, 10], [2**32, 2**32 - 1, 2**31], [1e300, 1e300], [5, 0, 5, 0]],
    ids=str,
)
@pytest.mark.parametrize("excluded", [0, 1])
def test_shares_follow_the_weights(weights, excluded):
    """By chi-square at one in a million; also among what is left when something is excluded."""
    pool = [Endpoint(f"a{n}:1", weight=w) for n, w in enumerate(weights)]
    picker = Random().picker(pool, rng=random.Random(7))
    exclude = pool[:excluded]
    picks = Counter(picker.pick(exclude=exclude) for _ in range(20_000))

    expected = {e: e.weight for e in pool[excluded:] if e.weight}
    assert set(picks) <= set(expected)
    assert chi_square(picks, expected) < critical(len(expected) - 1)


def test_shares_hold_where_almost_all_weight_is_excluded():
    """Excluding the heavy one leaves the light ones their own shares."""
    pool = [Endpoint("heavy:1", weight=10_000), Endpoint("a:1", weight=1), Endpoint("b:1", weight=3)]
    picker = Random().picker(pool, rng=random.Random(1))
    picks = Counter(picker.pick(exclude=pool[:1]) for _ in range(4_000))

    assert chi_square(picks, {pool[1]: 1, pool[2]: 3}) < critical(1)


def test_draws_are_independent():
    """Of consecutive pairs every combination comes, repetitions included: no rotation hides in it."""
    pool = [Endpoint(f"a{n}:1") for n in range(4)]
    picker = Random().picker(pool, rng=random.Random(3))
    picks = [picker.pick() for _ in range(16_001)]
    pairs = Counter(pairwise(picks))

    assert chi_square(pairs, {(x, y): 1 for x in pool for y in pool}) < critical(15)


def test_the_seed_decides():
    pool = [Endpoint(f"a{n}:1", weight=n + 1) for n in range(9)]
    one, other = (Random().picker(pool, rng=random.Random(5)) for _ in range(2))

    assert [one.pick() for _ in range(50)] == [other.pick() for _ in range(50)]
