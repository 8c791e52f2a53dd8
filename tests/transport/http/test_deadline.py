"""The caller's remaining time as a header: what is written can be read, and what cannot be read is ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.transport.http.deadline import remaining_of, written


@given(st.floats(min_value=0, max_value=1e6))
def test_what_is_written_is_read(seconds: float) -> None:
    """To the millisecond, rounded down so that nobody is promised more than there is; at least one millisecond."""
    read = remaining_of(written(seconds).decode(), None)
    assert read is not None
    assert max(0.001, seconds - 0.001) <= read <= max(0.001, seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("40m", 0.04), ("50u", 5e-5), ("99999999n", 0.099999999), ("0S", 0)],
)
def test_grpcs_form_is_read(text: str, seconds: float) -> None:
    assert remaining_of(None, text) == pytest.approx(seconds)


def test_the_smaller_one_holds() -> None:
    assert remaining_of("1500", "1S") == 1
    assert remaining_of("500", "1S") == 0.5
    assert remaining_of("nonsense", "1S") == 1
    assert remaining_of("500", "nonsense") == 0.5


@pytest.mark.parametrize("text", ["500,1500", "1500, 500", "nonsense,500", "500,", "0,500"])
def test_of_a_header_that_came_twice_the_smaller_one_holds(text: str) -> None:
    """Servers put a comma between the two. Source: RFC 9110, 5.3."""
    assert remaining_of(text, None) == 0.5
    assert remaining_of(None, "1S,500m") == 0.5


@pytest.mark.parametrize("text", ["", " ", "0", "-1", "1.5", "1e3", "٣", "1" * 11, "1000ms", "inf"])
def test_milliseconds_that_cannot_be_read_are_ignored(text: str) -> None:
    """Zero among them, which means no limit to Envoy."""
    assert remaining_of(text, None) is None


@pytest.mark.parametrize("text", ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", "٣S", "1 S"])
def test_a_grpc_timeout_that_cannot_be_read_is_ignored(text: str) -> None:
    assert remaining_of(None, text) is None


@given(st.text(), st.text())
def test_no_header_breaks_us(milliseconds: str, grpc_timeout: str) -> None:
    """Whatever is in them, there is a time that can be had, or none."""
    read = remaining_of(milliseconds, grpc_timeout)
    assert read is None or 0 <= read < 1e12
