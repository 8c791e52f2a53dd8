"""The arithmetic of success rates and failure percentages, against numbers worked out by hand and exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svcmesh.policy.outlier.rates import Count, FailurePercentage, SuccessRate, threshold

counts = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=30).map(
    lambda pairs: [Count(str(number), *pair) for number, pair in enumerate(pairs)]
)


def fleet(size: int, bad: int = 1, successes: int = 0, requests: int = 100) -> list[Count]:
    """Return the counts of ``size`` endpoints of which ``bad`` ones have ``successes``, and the others no failure."""
    poor = [Count(f"bad{n}", successes, requests - successes) for n in range(bad)]
    return poor + [Count(f"good{n}", requests, 0) for n in range(size - bad)]


def test_the_example_of_envoys_source():
    """Mean 90, variance 400, deviation 20; times 1.9."""
    assert threshold([50, 100, 100, 100, 100], 1900) == 52.0
    assert threshold([50, 100, 100, 100, 100], 0) == 90.0


def test_in_that_example_the_first_one_goes():
    rate = SuccessRate(5, 100, 1900)

    assert rate.found(fleet(5, successes=50), 100.0) == ["bad0"]
    assert rate.found(fleet(5, successes=50), 1.0) == ["bad0"]
    assert SuccessRate(5, 100, 2000).found(fleet(5, successes=50), 100.0) == [], "50 is not below 90 - 2 * 20"


@pytest.mark.parametrize("size", range(2, 12))
def test_one_dead_endpoint_is_found_among_five_and_not_among_four(size):
    """With rates of 0 and 1 the threshold is (n - 1) / n - 1.9 sqrt(n - 1) / n: negative up to four."""
    rates = [0.0, *[1.0] * (size - 1)]

    assert threshold(rates, 1900) == pytest.approx((size - 1) / size - 1.9 * math.sqrt(size - 1) / size)
    assert SuccessRate(1, 1, 1900).found(fleet(size), 1.0) == (["bad0"] if size >= 5 else [])


@pytest.mark.parametrize(("bad", "found"), [(21, 21), (22, 0), (50, 0)])
def test_too_many_of_a_kind_hide_each_other(bad, found):
    """From a share of about 0.217 on they are no outliers."""
    assert len(SuccessRate(5, 100, 1900).found(fleet(100, bad), 100.0)) == found


def test_too_few_requests_or_endpoints_say_nothing():
    busy = fleet(5, successes=50)

    assert SuccessRate(5, 101, 1900).found(busy, 100.0) == []
    assert SuccessRate(6, 100, 1900).found(busy, 100.0) == []
    assert SuccessRate(5, 100, 1900).found([*busy[:4], Count("idle", 99, 0)], 100.0) == []
    assert SuccessRate(0, 0, 1900).found([Count("unused", 0, 0)], 100.0) == []
    assert FailurePercentage(6, 50, 50).found(busy, beyond=False) == []
    assert FailurePercentage(5, 101, 50).found(busy, beyond=False) == []
    assert FailurePercentage(0, 0, 50).found([Count("unused", 0, 0)], beyond=False) == []


@pytest.mark.parametrize(("failures", "envoy", "grpc"), [(84, [], []), (85, ["bad0"], []), (86, ["bad0"], ["bad0"])])
def test_the_threshold_itself_is_too_much_to_envoy_and_not_to_grpc(failures, envoy, grpc):
    busy = fleet(5, successes=100 - failures)

    assert FailurePercentage(5, 50, 85).found(busy, beyond=False) == envoy
    assert FailurePercentage(5, 50, 85).found(busy, beyond=True) == grpc


@settings(max_examples=40, deadline=None)
@given(counts=counts, factor=st.integers(0, 4000), volume=st.integers(0, 200), hosts=st.integers(0, 6))
def test_success_rates_agree_with_exact_fractions(counts, factor, volume, hosts):
    """Whoever is further from the threshold than doubles can err is judged as exact arithmetic judges it."""
    valid = [count for count in counts if count.requests >= max(1, volume)]
    assume(valid)
    rates = [Fraction(100 * count.successes, count.requests) for count in valid]
    mean = sum(rates) / len(rates)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    found = SuccessRate(hosts, volume, factor).found(counts, 100.0)

    for count, rate in zip(valid, rates, strict=True):
        distance = float(mean - rate) - factor / 1000 * deviation
        if abs(distance) > 1e-9:
            assert (count.address in found) == (distance > 0 and len(valid) >= hosts)
    assert set(found) <= {count.address for count in valid}


@settings(max_examples=40, deadline=None)
@given(counts=counts, limit=st.integers(1, 100), volume=st.integers(0, 200))
def test_failure_percentages_agree_with_exact_fractions(counts, limit, volume):
    for beyond in (False, True):
        found = FailurePercentage(0, volume, limit).found(counts, beyond=beyond)
        for count in counts:
            enough = count.requests >= max(1, volume)
            excess = Fraction(100 * count.failures, max(1, count.requests)) - limit
            if excess or count.requests in (0, 100):
                assert (count.address in found) == (enough and (excess > 0 or (excess == 0 and not beyond)))


@settings(max_examples=30, deadline=None)
@given(counts=counts, factor=st.integers(1000, 4000))
def test_nobody_goes_while_nothing_fails_and_never_do_all(counts, factor):
    well = [count._replace(failures=0) for count in counts]

    assert SuccessRate(0, 0, factor).found(well, 100.0) == []
    assert FailurePercentage(0, 0, 85).found(well, beyond=False) == []
    assert len(SuccessRate(0, 0, factor).found(counts, 100.0)) < len(counts)
