"""The static stride scheduler over measured weights: gRPC's scaling, its bounds and its sequence, lap by lap."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.balance.static_stride import LONG, SCALE, laps, scaled

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e12)), min_size=1, max_size=30)


class From:
    """A source of chance that begins at the first generation."""

    def random(self) -> float:
        return 0.0


def reference(weights, sequence):
    """Return whom static_stride_scheduler.cc serves at this number of its sequence, or None if it goes on."""
    backend, generation = sequence % len(weights), sequence // len(weights)
    weight, offset = weights[backend], backend * (SCALE // 2)
    return None if (weight * generation + offset) % SCALE < SCALE - weight else backend


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 2, 4], [16384, 32768, 65535]),  # rounded half up, as lround does
        ([5], [65535]),
        ([0, 0, 0], [65535, 65535, 65535]),
        ([100, 0, 300], [21845, 43690, 65535]),  # the unknown one has the mean, 200
        ([0, 7], [65535, 65535]),
        ([1] * 19 + [1000], [129] * 19 + [65535]),  # the mean is 50.95, so that 1,000 counts as 509.5
        ([1] + [1000] * 9, [590] + [65535] * 9),  # the mean is 58,988 of them, and 1 % of it the least
        ([1e300, 1e300, 1e-300], [65535, 65535, 437]),
    ],
)
def test_scaling_worked_out_by_hand(weights, expected):
    assert scaled(weights) == expected


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_scaled_weights_stay_within_their_bounds(weights):
    found = scaled(weights)
    known = [weight for weight in weights if weight]

    assert max(found) == SCALE
    assert min(found) >= 1
    if known:
        mean = sum(known) / len(known)
        assert all(
            one == pytest.approx(weight / min(max(known), 10 * mean) * SCALE, abs=1)
            for weight, one in zip(weights, found, strict=True)
            if 0.02 * mean < weight < 10 * mean
        )


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.integers(1, 600))
def test_laps_are_grpcs_sequence(weights, picks):
    """The same endpoints in the same order, however the sequence is cut."""
    found = scaled(weights)
    new_lap = laps(range(len(found)), found, From())
    served = chain.from_iterable(iter(new_lap, None))
    wanted = (backend for number in count() if (backend := reference(found, number)) is not None)

    assert list(islice(served, picks)) == list(islice(wanted, picks))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_shares_are_right_to_one_turn(weights, rng):
    """In any lap, wherever it begins."""
    found = scaled(weights)
    size = len(found)
    generations = -(-LONG // size)
    counts = Counter(laps(range(size), found, rng)())
    for number, weight in enumerate(found):
        assert abs(counts[number] - generations * weight / SCALE) < 1


def test_no_lap_is_empty_and_a_thousand_members_have_short_ones():
    new_lap = laps(range(1000), scaled([1] * 999 + [1000]), random.Random(1))
    for _ in range(20):
        assert 1 <= len(list(new_lap())) <= 1000
