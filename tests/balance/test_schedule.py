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


def one_round(new_lap, size):
    """Return what makes up a round, or with few cells several: with many a lap is a block of one."""
    found = one_lap(new_lap)
    while len(found) < size:
        found += one_lap(new_lap)
    return found


@given(st.integers(2, 1200), st.data(), st.randoms(use_true_random=False))
def test_a_round_is_fair_at_every_place(size, data, rng):
    """In one round every cell is first equally often, and second, and third; and candidates always differ."""
    together = data.draw(st.integers(2, min(size, 5)))
    found = one_round(laps(cells(size), rng, together), size)

    assert all(len(set(group)) == together for group in found)
    for place in range(together):
        counts = Counter(group[place] for group in found)
        assert len(counts) == size
        assert len(set(counts.values())) == 1


@pytest.mark.parametrize("size", [2, 3, 5, 10, 24])
def test_with_few_cells_everybody_meets_everybody_equally_often(size):
    meetings = Counter(one_lap(laps(cells(size), random.Random(1), 2)))

    assert len(meetings) == size * (size - 1)
    assert len(set(meetings.values())) == 1


@pytest.mark.parametrize("size", [256, 1000])
def test_with_many_cells_partners_change_from_round_to_round(size):
    new_lap = laps(cells(size), random.Random(1), 2)
    partners = [dict(one_round(new_lap, size)) for _ in range(20)]

    someone = next(iter(partners[0]))

    assert len({partner[someone] for partner in partners}) == 20


@pytest.mark.parametrize("size", [26, 60, 100])
def test_with_some_dozens_of_cells_everybody_meets_everybody_in_time(size):
    """One round of the table has other partners in each lap, and no lap has anybody twice in a place of a round."""
    new_lap = laps(cells(size), random.Random(1), 2)
    seen = set(one_lap(new_lap))
    assert len(seen) == 24 * size

    for lap in range(1, size - 24):
        found = one_lap(new_lap)
        assert len(set(found) - seen) == size, lap
        assert all(one is not other for one, other in found)
        assert set(Counter(one for one, _ in found).values()) == set(Counter(other for _, other in found).values())
        seen.update(found)
    assert len(seen) == size * (size - 1)


@pytest.mark.parametrize("size", [3, 100, 300])
def test_laps_differ(size):
    """A lap does not begin where the last one did, so that no rhythm of a caller can settle on it."""
    new_lap = laps(cells(size), random.Random(1), 2)

    assert len({next(new_lap())[0] for _ in range(60)}) > 1
    assert len({tuple(one_lap(new_lap)[:8]) for _ in range(10)}) > 5


@pytest.mark.parametrize("size", [2, 255, 256, 300, 511, 1000])
def test_short_laps_would_cost_and_are_not_made(size):
    new_lap = laps(cells(size), random.Random(1), 2)

    assert all(len(one_lap(new_lap)) >= LONG for _ in range(10))


def test_a_lap_of_many_is_short_enough_to_be_at_hand_when_it_is_walked():
    new_lap = laps(cells(10_000), random.Random(1), 2)

    assert all(len(one_lap(new_lap)) < 2 * LONG for _ in range(50))


@pytest.mark.parametrize("size", [3, 5, 25, 26, 60])
def test_three_who_are_compared_meet_in_every_order_in_time(size):
    """Two of them at any two places equally often, as when each is drawn by itself."""
    new_lap = laps(range(size), random.Random(1), 3)
    groups = [group for _ in range(6 * size) for group in one_lap(new_lap)]
    pairs = size * (size - 1)

    for one, other in ((0, 1), (0, 2), (1, 2)):
        meetings = Counter((group[one], group[other]) for group in groups)
        assert len(meetings) == pairs
        assert max(meetings.values()) < 3 * len(groups) / pairs


@pytest.mark.parametrize("size", [5, 25, 100, 301])
def test_whom_two_are_compared_with_does_not_follow_from_who_they_are(size):
    """The first one of three meets another pair in nearly each round that is drawn, until it has met them all."""
    new_lap = laps(range(size), random.Random(1), 3)
    rounds = 1000
    groups = {group for _ in range(rounds) for group in one_lap(new_lap) if group[0] == 0}

    assert len(groups) > min((size - 1) * (size - 2) - 1, rounds / 3)
