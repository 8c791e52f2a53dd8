"""Full jitter: evenly from nothing to a ceiling that doubles up to its cap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.backoff import FullJitter, GrpcBackoff
from svcmesh.policy.retry import Again, Ask, Retry


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


class TestGrpcBackoff:
    """As gRPC's clients wait."""

    def test_the_wait_grows_by_its_factor_up_to_the_cap_and_is_spread_by_a_fifth(self):
        wait = GrpcBackoff(initial=1.0, cap=10.0, multiplier=3.0)

        assert [wait.seconds(retry, Fixed(0.5)) for retry in range(1, 5)] == pytest.approx([1.0, 3.0, 9.0, 10.0])
        assert (wait.seconds(4, Fixed(0.0)), wait.seconds(4, Fixed(1.0))) == pytest.approx((8.0, 12.0))

    @given(
        multiplier=st.floats(1e-300, 1e300),
        cap=st.floats(1e-9, 1e300),
        retry=st.integers(1, 10**9),
        drawn=st.floats(0, 1),
    )
    def test_no_wait_is_negative_or_far_beyond_the_cap(self, multiplier, cap, retry, drawn):
        wait = GrpcBackoff(initial=0.1, cap=cap, multiplier=multiplier)
        assert 0 <= wait.seconds(retry, Fixed(drawn)) <= 1.21 * cap

    @pytest.mark.parametrize("wrong", [{"initial": 0}, {"cap": 0}, {"multiplier": 0}, {"multiplier": float("nan")}])
    def test_a_wrong_value_is_named(self, wrong):
        with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} must"):
            GrpcBackoff(**{"initial": 1.0, "cap": 1.0, "multiplier": 1.0} | wrong)

    def test_retries_wait_by_it(self):
        retry = Retry(wait=GrpcBackoff(initial=1.0, cap=9.0, multiplier=2.0), budget=None)
        ended = Outcome(Kind.UNSENT, reason="connect-failure")
        ask = Ask(ended, attempts=2, untried=False, safe=True, sendable=True, began=0.0, now=0.0, deadline=None)

        assert retry.decide(ask, None, Fixed(0.5)) == Again(pytest.approx(2.0))
