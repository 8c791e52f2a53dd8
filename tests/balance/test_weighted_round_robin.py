"""Weighted round robin: exact over a period, smooth within it, fair from the first pick on."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from math import floor, gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance import WeightedRoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.balance.weighted_round_robin import LONGEST, period, whole

WEIGHTS = st.lists(st.integers(1, 30), min_size=1, max_size=9)


def pool(weights):
    return [Endpoint(f"10.0.0.{n}:80", weight=weight) for n, weight in enumerate(weights)]


def strides(weights):
    """Return gRPC's schedule, as static_stride_scheduler.cc has it, with the largest weight as its scale."""
    size, scale = len(weights), max(weights)
    served = []
    for sequence in range(scale * size):
        backend, generation = sequence % size, sequence // size
        weight, offset = weights[backend], backend * (scale // 2)
        if (weight * generation + offset) % scale >= scale - weight:
            served.append(backend)
    return served


@given(WEIGHTS)
def test_a_period_is_grpcs_schedule(weights):
    cells = [Cell(endpoint) for endpoint in pool(weights)]

    assert [cells.index(cell) for cell in period(cells)] == strides([w // gcd(*weights) for w in weights])


@given(WEIGHTS, st.randoms(use_true_random=False))
def test_any_full_period_has_exact_counts(weights, rng):
    """Wherever it starts."""
    endpoints = pool(weights)
    picker = WeightedRoundRobin().picker(endpoints, rng=rng)
    steps = sum(weights) // gcd(*weights)
    for _ in range(3):
        picks = Counter(picker.pick() for _ in range(steps))
        assert picks == {e: e.weight // gcd(*weights) for e in endpoints}


@given(WEIGHTS)
def test_each_is_served_evenly(weights):
    """Between two turns of one endpoint lie about as many picks as its share says, never a whole period."""
    cells = [Cell(endpoint) for endpoint in pool(weights)]
    steps = period(cells)
    for cell in cells:
        places = [n for n, step in enumerate(steps + steps) if step is cell]
        gaps = [later - sooner for sooner, later in pairwise(places)]
        even = len(steps) / steps.count(cell)
        assert max(gaps) <= 2 * even + len(cells)


def test_light_endpoints_get_their_share_of_first_picks():
    """A thousand clients that make ten calls each: the light one gets its part, not nothing."""
    endpoints = pool([100, 100, 10])
    picks = Counter()
    for seed in range(1000):
        picker = WeightedRoundRobin().picker(endpoints, rng=random.Random(seed))
        picks.update(picker.pick() for _ in range(10))

    assert 380 < picks[endpoints[2]] < 580  # 10 of 210 parts of 10,000 are 476


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([2, 4, 6], [1, 2, 3]),
        ([0.1, 0.2, 0.3], [1, 2, 3]),
        ([0.5, 1, 1.25], [2, 4, 5]),
        ([7], [1]),
        ([1e300, 1e300], [1, 1]),
        ([2**32, 2**32], [1, 1]),
    ],
)
def test_ratios_are_exact_where_they_are_small(weights, expected):
    assert whole(weights) == expected


@given(st.lists(st.floats(1e-6, 1e12), min_size=2, max_size=40))
def test_other_ratios_are_nearly_right(weights):
    """Each share is right to one step, or is the least that is possible; the period stays bounded."""
    counts = whole(weights)
    total, steps = sum(weights), sum(counts)

    assert steps <= max(LONGEST, 16 * len(weights)) + len(weights)
    assert min(counts) >= 1
    for weight, count in zip(weights, counts, strict=True):
        assert count == 1 or abs(count / steps - weight / total) <= (1 + len(weights)) / steps
        assert count >= floor(weight / total * steps) - 1 - len(weights)


def test_what_is_excluded_leaves_the_others_their_shares():
    endpoints = pool([1, 2, 3, 0])
    picker = WeightedRoundRobin().picker(endpoints, rng=random.Random(1))
    picks = Counter(picker.pick(exclude=endpoints[2:]) for _ in range(3000))

    assert set(picks) == set(endpoints[:2])
    assert abs(picks[endpoints[0]] - 1000) < 150
    assert picker.pick(exclude=endpoints) is None
    assert WeightedRoundRobin().picker([]).pick() is None
    assert WeightedRoundRobin().picker(endpoints[3:]).pick() is None


def test_the_few_that_are_left_of_many_keep_their_shares_too():
    """Drawing again and again would hardly meet one of them, so they are looked for."""
    endpoints = pool([1, 3, *[100] * 50])
    picker = WeightedRoundRobin().picker(endpoints, rng=random.Random(1))
    picks = Counter(picker.pick(exclude=endpoints[2:]) for _ in range(400))

    assert picks == {endpoints[0]: 100, endpoints[1]: 300}


@pytest.mark.parametrize("light", [1, 100, 5_000, 10_000, 100_000])
def test_a_step_for_each_of_many_light_ones_takes_a_17th_of_the_calls_at_most(light):
    """Nobody starves, and the price that a heavy one pays for it is bounded."""
    heavy, *others = whole([1e9] + [1] * light)

    assert set(others) == {1}
    assert heavy / (heavy + light) >= 1e9 / (1e9 + light) - 1 / 17
