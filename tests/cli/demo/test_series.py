"""The arithmetic of curves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.cli.demo.series import quantile, shares, slices, ticks

NUMBERS = st.floats(min_value=0, max_value=1e6)


@given(st.lists(NUMBERS, min_size=1), st.floats(min_value=0, max_value=1))
def test_a_quantile_is_measured_and_not_below_its_share(values: list[float], share: float) -> None:
    """It is one of the values, at least its share of them is not above it, and no smaller value has that property."""
    found = quantile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) <= share * len(values)


def test_quantiles_of_known_values() -> None:
    """The median and the 99th percentile of 1 to 100 are 50 and 99; of nothing there is none."""
    assert quantile(range(1, 101), 0.5) == 50
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([], 0.5) is None


@given(st.lists(st.tuples(st.floats(min_value=0, max_value=9.99), NUMBERS)))
def test_slices_keep_everything_within_their_length(pairs: list[tuple[float, float]]) -> None:
    """Each value is in exactly one slice, that of its instant."""
    found = slices(pairs, 10.0, 1.0)

    assert len(found) == 10
    assert sorted(value for values in found for value in values) == sorted(value for _, value in pairs)
    for instant, value in pairs:
        assert value in found[int(instant)]


def test_slices_leave_out_what_is_outside() -> None:
    """What happened before 0 or after the end belongs to no slice; a width of 0 is refused."""
    assert slices([(-0.1, 1.0), (0.0, 2.0), (2.0, 3.0)], 2.0, 1.0) == [[2.0], []]
    with pytest.raises(ValueError, match="width"):
        slices([], 1.0, 0.0)


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1)))
def test_shares_add_up(counts: list[list[float]]) -> None:
    """The shares of a column add up to 1, or to 0 where there was nothing."""
    columns = zip(zip(*counts, strict=True), zip(*shares(counts), strict=True), strict=True)

    for counted, shared in columns:
        assert sum(shared) == pytest.approx(1.0 if sum(counted) else 0.0)
        assert all(0.0 <= share <= 1.0 for share in shared)


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_ticks_cover_the_largest_value_in_few_steps(largest: float) -> None:
    """They begin at 0, reach the largest value, are evenly apart, and are neither crowded nor lonely."""
    found = ticks(largest)

    assert found[0] == 0
    assert largest <= found[-1] * (1 + 1e-6)
    assert found[-2] < largest
    assert 2 <= len(found) <= 6
    assert found[1] * (len(found) - 1) == pytest.approx(found[-1])


def test_ticks_are_round() -> None:
    """Steps are 1, 2 or 5 times a power of ten; nothing at all still has a scale."""
    assert ticks(350, 3) == [0, 200, 400]
    assert ticks(4) == [0, 1, 2, 3, 4]
    assert ticks(0) == [0, 1]
