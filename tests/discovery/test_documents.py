"""JSON and YAML become plain values; what cannot be meant is an error with its line, and none crashes the process."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.documents import DEEPEST, line_of, parse_document


def parse(text, is_json=False):
    return parse_document(text, "/etc/mesh", is_json=is_json)


@pytest.mark.parametrize("is_json", [True, False])
def test_both_read_json(is_json):
    assert parse('["a:1", {"address": "b:1", "weight": 2.5}]', is_json) == ["a:1", {"address": "b:1", "weight": 2.5}]


def test_yaml_anchors_and_merge_keys_work():
    text = "- &one {address: 'a:1', weight: 2}\n- {<<: *one, address: 'b:1'}\n"

    assert parse(text) == [{"address": "a:1", "weight": 2}, {"address": "b:1", "weight": 2}]


@pytest.mark.parametrize(
    ("text", "is_json", "told"),
    [
        ("[\n1,\n", True, "/etc/mesh, line 3: "),
        ("", True, "/etc/mesh, line 1: "),
        ('{"a": 1, "a": 2}', True, "'a' stands twice"),
        ('[{"w": NaN}]', True, "NaN"),
        ("[" * 100_000, True, "deep"),
        ("a: 1\nb: 2\na: 3\n", False, "/etc/mesh, line 3: key 'a' stands twice"),
        ("- a\nb: c\n", False, "line 2"),
        ("a: 'x\n", False, "line 2"),
        ("[" * 100_000, False, "line 1: nested more than 32 deep"),
        ("- " * 100_000, False, "nested more than 32 deep"),
        ("!!python/object/apply:os.system ['true']", False, "line 1: .*constructor"),
        ("*nobody", False, "undefined alias"),
        ("? [1, 2]\n: x\n", False, "unhashable"),
        ("a: 1\n--- \nb: 2\n", False, "another document|single document"),
        ("\x00", False, "/etc/mesh"),
        ("9" * 5000, True, "/etc/mesh: .*digits"),
        ("9" * 5000, False, "/etc/mesh: .*digits"),
        ("{a: 0x" + "f" * 5000 + "}", False, "/etc/mesh: .*digits"),
        ("a: 1" + ":1" * 5000, False, "/etc/mesh: .*digits"),
        ("!!bool x", False, "/etc/mesh: a value is not of the kind that its tag says"),
        ("a: !!int ''", False, "tag"),
        ("!!timestamp x", False, "tag"),
        ("[!!map [a]]", False, "tag"),
        ("1" + ":1" * 200 + ".5", False, "tag"),
    ],
)
def test_mistakes_are_discovery_errors_with_the_place(text, is_json, told):
    with pytest.raises(DiscoveryError, match=told):
        parse(text, is_json)


def test_what_is_nested_just_enough_is_read():
    assert parse("[" * DEEPEST + "]" * DEEPEST) is not None


def test_the_line_of_a_value_is_found_by_its_path():
    text = "orders:\n- a:1\n- address: b:1\n  weight: x\n"

    assert line_of(text, ("orders",)) == 2
    assert line_of(text, ("orders", 1)) == 3
    assert line_of(text, ("orders", 1, "weight")) == 4
    assert line_of(text, ("orders", 9)) == 2, "the nearest that exists"
    assert line_of('["\\ud83d\\ude00"]', (0,)) is None, "JSON that is no YAML"
    assert line_of("[" * 100_000, (0,)) is None, "too deep to be looked at"


tags = st.sampled_from(
    ["", "null", "bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set", "str", "seq", "map"]
)
inside = st.sampled_from(["x", "''", "-", "1:1.5", "[a]", "{a: b}", "2020-99-99", "[[a, b]]", "{a}", "0x", "&a [*a]"])


@given(st.lists(st.tuples(tags, inside), max_size=3))
def test_any_value_of_any_tag_is_a_value_or_a_discovery_error(values):
    text = "".join(f"- {'!!' + tag if tag else ''} {value}\n" for tag, value in values)
    with suppress(DiscoveryError):
        parse(text, is_json=False)


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_a_value_or_a_discovery_error(text, is_json):
    try:
        parse(text, is_json)
    except DiscoveryError as error:
        assert str(error).startswith("/etc/mesh")  # noqa: PT017 - the other outcome is a value
