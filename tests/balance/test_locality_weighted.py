"""Weights of localities: exact shares from any start, in proportion to what their hosts can take."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from fractions import Fraction
from math import gcd, lcm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Locality
from svcmesh.balance import LocalityWeighted
from svcmesh.balance.locality_weighted import effective, strides

X, Y, Z = Locality("eu", "x"), Locality("eu", "y"), Locality("eu", "z")


@pytest.mark.parametrize(("healthy", "percent"), [(100, 33), (70, 33), (60, 30), (50, 26), (20, 12), (0, 0)])
def test_the_share_of_a_locality_shrinks_with_its_health(healthy, percent):
    """Weights of 1 and 2; of the first so many percent of the hosts are well, of the second all."""
    worth = effective(1, healthy, 100, 140)

    assert round(100 * worth / (worth + effective(2, 100, 100, 140))) == percent


def test_what_a_locality_is_worth_is_exact():
    assert effective(3, 1, 3, 140) == Fraction(7, 5)
    assert effective(3, 3, 4, 140) == 3
    assert effective(3, 0, 0, 140) == 0
    assert effective(0, 5, 5, 140) == 0


WEIGHTS = st.lists(st.builds(Fraction, st.integers(1, 60), st.integers(1, 12)), min_size=1, max_size=4)


@given(WEIGHTS, st.randoms(use_true_random=False))
def test_over_a_period_shares_are_exact_from_any_start(weights, rng):
    scale = lcm(*(weight.denominator for weight in weights))
    counts = [int(weight * scale) for weight in weights]
    counts = [count // gcd(*counts) for count in counts]
    place = strides(weights, rng)

    for _ in range(2):
        assert Counter(place() for _ in range(sum(counts))) == Counter(dict(enumerate(counts)))


@given(WEIGHTS, st.randoms(use_true_random=False))
def test_over_any_few_calls_nobody_is_ahead_by_more_than_a_turn(weights, rng):
    """No locality starves after a change, however small its weight."""
    place, seen, total = strides(weights, rng), Counter(), sum(weights)
    for calls in range(1, 60):
        seen[place()] += 1
        for number, weight in enumerate(weights):
            assert abs(seen[number] - float(calls * weight / total)) <= len(weights)


class Drawn:
    """Chance that says what a test wants."""

    def __init__(self, part):
        self.random = lambda: part


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_first_places_are_as_often_as_weights_say(counts):
    """One start for each step of a period: those after which nobody is served for long would have had more of them."""
    weights, total = [Fraction(number) for number in counts], sum(counts)
    first = Counter(strides(weights, Drawn((start + 0.5) / total))() for start in range(total))

    assert first == dict(enumerate(counts))


def test_the_start_is_random():
    starts = Counter(strides([Fraction(1)] * 4, random.Random(seed))() for seed in range(400))

    assert len(starts) == 4
    assert min(starts.values()) > 60


def test_a_locality_that_is_not_named_has_no_weight():
    config = LocalityWeighted({X: 1, Y: 3, Z: 0})

    assert [config.weight_of(where) for where in (X, Y, Z, Locality("us"), None)] == [1, 3, 0, 0, 0]
    assert config.normalized([X, Y, Z, Locality("us")]) == {X: 0.25, Y: 0.75}
    assert config.normalized([Y, Z]) == {Y: 1.0}
    assert config.normalized([Z]) == {}
    assert LocalityWeighted({Locality(): 2}).weight_of(None) == 2


@pytest.mark.parametrize(
    "wrong", [None, 5, "eu", {X: -1}, {X: 1.5}, {X: True}, {"eu": 1}, [X], [(X, 1, 2)], {X: 0, Y: 0}, {}, [([], 1)]]
)
def test_what_is_no_weight_is_refused(wrong):
    with pytest.raises(ConfigError, match="weights"):
        LocalityWeighted(wrong)


def test_it_can_be_compared_hashed_and_copied():
    config = LocalityWeighted({X: 1, Y: 2})

    assert config == LocalityWeighted([(X, 1), (Y, 2)])
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, LocalityWeighted({X: 1, Y: 2})}) == 1
