"""Loads: what is least, and how ties and idleness are settled."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance.cell import Cell
from svcmesh.balance.load import by_weight, least_of, least_of_all, load_of
from tests.balance.shares import chi_square, critical

busy = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.5, 1, 2, 7])), min_size=1, max_size=8)


def cells(*pairs):
    made = [Cell(Endpoint(f"a{n}:1", weight=weight)) for n, (_, weight) in enumerate(pairs)]
    for cell, (active, _) in zip(made, pairs, strict=True):
        cell.started = active
    return made


@given(busy, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_least_has_the_least_active_plus_one_to_the_bias_by_weight(pairs, bias):
    """The logarithm keeps the order of Envoy's formula."""
    candidates = cells(*pairs)
    found = least_of(candidates, load_of(bias, equal=False))
    scores = [(active + 1) ** bias / weight for active, weight in pairs]

    if any(active for active, _ in pairs):
        assert scores[candidates.index(found)] == pytest.approx(min(scores))
    else:
        assert found is candidates[0]


def test_equal_ones_go_to_the_first_or_to_a_random_one():
    candidates = cells((2, 1), (1, 1), (1, 1))
    load, rng = load_of(1.0, equal=True), random.Random(1)

    assert least_of(candidates, load) is candidates[1]
    counts = Counter(least_of_all(candidates, load, rng) for _ in range(2_000))
    assert chi_square(counts, dict.fromkeys(candidates[1:], 1)) < critical(1)


def test_a_count_that_another_thread_is_changing_does_no_harm():
    """Seen between two changes, a difference of totals may be negative."""
    candidates = cells((0, 1), (3, 2))
    candidates[0].finished = 1

    assert least_of(candidates, load_of(1.0, equal=False)) is candidates[0]


@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_by_weight_draws_different_cells(how_many, rng):
    candidates = cells((0, 1), (0, 5), (0, 0.1), (0, 2))
    drawn = by_weight(candidates, how_many, rng)

    assert len(set(drawn)) == len(drawn) == min(how_many, 4)


def test_by_weight_draws_the_first_by_weight():
    candidates, rng = cells((0, 1), (0, 3), (0, 6)), random.Random(1)
    counts = Counter(by_weight(candidates, 2, rng)[0] for _ in range(5_000))

    assert chi_square(counts, {cell: cell.endpoint.weight for cell in candidates}) < critical(2)
