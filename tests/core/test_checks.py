"""Checks name the field and the value, whatever nonsense comes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.core import checks

NONSENSE = [math.nan, math.inf, -math.inf, True, "1", [], 1j]
HUGE = pytest.param(10**400, id="huge")


@pytest.mark.parametrize("value", [*NONSENSE, None, HUGE])
def test_nonsense_is_no_number(value):
    with pytest.raises(ConfigError, match="field"):
        checks.number("field", value)


@pytest.mark.parametrize("value", [*NONSENSE, HUGE, -1, -0.001])
def test_nonsense_is_no_number_of_seconds(value):
    with pytest.raises(ConfigError, match="field"):
        checks.seconds("field", value, zero=True)


def test_zero_seconds_only_where_they_mean_something():
    assert checks.seconds("field", 0, zero=True) == 0
    assert checks.seconds("field", None) is None
    with pytest.raises(ConfigError, match="more than 0"):
        checks.seconds("field", 0)


@pytest.mark.parametrize("value", [*NONSENSE, None, 1.0, 0, -1])
def test_a_whole_number_is_an_int_in_range(value):
    with pytest.raises(ConfigError, match="field must be a whole number of at least 1"):
        checks.whole("field", value, 1)


@pytest.mark.parametrize("value", [2**2000, -(2**2000), 10**5000], ids=["large", "below", "beyond text"])
def test_a_number_of_hundreds_of_digits_is_told_by_its_size(value):
    """Nobody reads them, and of more than 4,300 Python makes no text."""
    told = f"not a number of {value.bit_length():,} bits$"
    with pytest.raises(ConfigError, match=told):
        checks.number("field", value)
    with pytest.raises(ConfigError, match=told):
        checks.whole("field", -abs(value), 1)


def test_a_value_with_such_a_number_in_it_is_told_by_its_type():
    with pytest.raises(ConfigError, match="not a list with numbers too large to be shown"):
        checks.number("field", [16**5000])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_between_includes_its_ends(value):
    if 0 <= value <= 1:
        assert checks.between("field", value, 0, 1) == value
    else:
        with pytest.raises(ConfigError, match="from 0 to 1"):
            checks.between("field", value, 0, 1)
