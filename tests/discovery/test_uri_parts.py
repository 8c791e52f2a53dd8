"""What all backends may ask of a URI: a query of known keys, and text that is decoded strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.uri_parts import Scheme, Uri, decoded, query_of


def uri(query, authority="h:1"):
    return Uri(f"x://{authority}?…", "x", authority, "", query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, {}),
        ("", {}),
        ("a", {"a": [""]}),
        ("a=", {"a": [""]}),
        ("a=1&t=x&t=y", {"a": ["1"], "t": ["x", "y"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("a=%26%3D+%2B", {"a": ["&= +"]}),
        ("a=%C3%A4", {"a": ["ä"]}),
    ],
)
def test_a_query_is_values_by_key(query, expected):
    assert query_of(uri(query), {"a", "t"}, repeated={"t"}) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("b=1", "unknown key 'b'.*known are a, t"),
        ("a=1&a=2", "a stands twice"),
        ("a=1&", "unknown key ''"),
        ("a=%FF", "UTF-8"),
        ("a=%00", "NUL"),
        ("A=1", "unknown key 'A'"),
    ],
)
def test_what_a_query_cannot_hold_is_said(query, told):
    with pytest.raises(ConfigError, match=told):
        query_of(uri(query), {"a", "t"}, repeated={"t"})


@given(st.text())
def test_any_query_gives_values_or_an_error_of_ours(text):
    try:
        found = query_of(uri(text), {"a"})
    except ConfigError:
        return
    assert set(found) <= {"a"}


def test_decoding_is_strict():
    assert decoded(uri(None), "%2Frun") == "/run"
    with pytest.raises(ConfigError, match="UTF-8"):
        decoded(uri(None), "%ff")


def test_whether_a_uri_needs_a_name_may_depend_on_it():
    by_path = Scheme(lambda uri, surroundings: None, complete=lambda uri: bool(uri.path))

    assert not by_path.names_endpoints(uri(None))
    assert by_path.names_endpoints(Uri("x://h/a", "x", "h", "/a", None))
    assert Scheme(lambda uri, surroundings: None, complete=True).names_endpoints(uri(None))
