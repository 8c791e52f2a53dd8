"""Schedules of candidates: stratified, never the same cell twice, and nothing that repeats for ever."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance.cell import Cell
from svcmesh.balance.schedule import LONG, laps


def cells(size):
    return [Cell(Endpoint(f"10.0.{n // 250}.{n % 250}:80")) for n in range(size)]


def one_lap(new_lap):
    return list(new_lap())


@given(st.integers(2, 600), st.data(), st.randoms(use_true_random=False))
def test_a_lap_is_fair_at_every_place(size, data, rng):
    """In one lap every cell is first equally often, and second, and third; and candidates always differ."""
    together = data.draw(st.integers(2, min(size, 5)))
    lap = one_lap(laps(cells(size), rng, together))

    assert all(len(set(group)) == together for group in lap)
    for place in range(together):
        counts = Counter(group[place] for group in lap)
        assert len(counts) == size
        assert len(set(counts.values())) == 1


@pytest.mark.parametrize("size", [2, 3, 5, 10, 24])
def test_with_few_cells_everybody_meets_everybody_equally_often(size):
    meetings = Counter(one_lap(laps(cells(size), random.Random(1), 2)))

    assert len(meetings) == size * (size - 1)
    assert len(set(meetings.values())) == 1


@pytest.mark.parametrize("size", [256, 1000])
def test_with_many_cells_partners_change_from_lap_to_lap(size):
    new_lap = laps(cells(size), random.Random(1), 2)
    partners = [dict(one_lap(new_lap)) for _ in range(20)]

    someone = next(iter(partners[0]))

    assert len({partner[someone] for partner in partners}) == 20


@pytest.mark.parametrize("size", [3, 100, 300])
def test_laps_differ(size):
    """A lap does not begin where the last one did, so that no rhythm of a caller can settle on it."""
    new_lap = laps(cells(size), random.Random(1), 2)

    assert len({next(new_lap())[0] for _ in range(60)}) > 1
    assert len({tuple(one_lap(new_lap)[:8]) for _ in range(10)}) > 5


def test_short_laps_would_cost_and_are_not_made():
    assert len(one_lap(laps(cells(2), random.Random(1), 2))) >= LONG
