"""Full jitter: evenly from nothing to a ceiling that doubles up to its cap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.policy.backoff import FullJitter


class Fixed:
    """Always draws the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def test_the_ceiling_doubles_up_to_the_cap():
    ceilings = [FullJitter(base=0.025, cap=0.25).ceiling(retry) for retry in range(1, 7)]

    assert ceilings == [0.025, 0.05, 0.1, 0.2, 0.25, 0.25]


def test_the_wait_is_the_drawn_share_of_the_ceiling():
    assert FullJitter(base=1.0, cap=8.0).seconds(3, Fixed(0.25)) == 1.0


@given(retry=st.integers(1, 10**9), seed=st.integers(0, 100))
def test_no_wait_is_negative_or_longer_than_the_cap(retry, seed):
    assert 0 <= FullJitter().seconds(retry, random.Random(seed)) <= 0.25


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base": 0}, "base"),
        ({"base": float("nan")}, "base"),
        ({"cap": -1}, "cap"),
        ({"base": 1.0, "cap": 0.5}, "cap"),
        ({"base": True}, "base"),
        ({"base": None}, "base"),
        ({"cap": None}, "cap"),
    ],
)
def test_a_wrong_end_is_named(settings, named):
    with pytest.raises(ConfigError, match=f"^{named} must"):
        FullJitter(**settings)
