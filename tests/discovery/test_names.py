"""Any text becomes one safe path component, and no two become the same."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.names import LONGEST_NAME, quote_name, unquote_name

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@pytest.mark.parametrize("name", ["greeter", "orders-v2", "api.example.com", "a_b"])
def test_plain_names_stay_readable(name):
    assert quote_name("service", name) == name


@given(names)
@example("..")
@example("../../etc/passwd")
@example("\0")
@example(".hidden")
@example("x" * LONGEST_NAME)
def test_the_result_is_one_visible_component_that_fits(name):
    quoted = quote_name("service", name)

    assert PurePath(quoted).name == quoted
    assert not quoted.startswith(".")
    assert quoted.isascii()
    assert quoted.isprintable()
    assert 0 < len(quoted) <= 180


@given(names, names)
@example("a/b", "a%2Fb")
@example("~", "%7E")
@example("x" * 500 + "a", "x" * 500 + "b")
def test_different_names_never_meet(one, other):
    assert (quote_name("id", one) == quote_name("id", other)) == (one == other)


@given(names)
@example("Orders.EU_1")
@example("x" * 500)
def test_what_was_quoted_can_be_read_unless_it_was_too_long(name):
    quoted = quote_name("service", name)

    assert unquote_name(quoted) == (None if "~" in quoted else name)


@pytest.mark.parametrize("foreign", ["a b", "%6f", ".hidden", "a%2", "%ff", "", "lost+found", "x" * 5000])
def test_what_quoting_never_made_is_no_name(foreign):
    assert unquote_name(foreign) is None


def test_a_short_name_cannot_imitate_the_hash_of_a_long_one():
    long = quote_name("id", "x" * 500)

    assert quote_name("id", long) != long


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1), "\ud800", None, 7, b"greeter"])
def test_what_is_no_name_is_refused_with_the_field(name):
    with pytest.raises(ConfigError, match=r"^service "):
        quote_name("service", name)
