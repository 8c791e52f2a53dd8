"""A long list in JSON, read element by element: the same as `json.loads` says, and nothing is read twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.discovery.elements import Known, read_elements

PATHS = [(), ("a",), ("a", "b")]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=15,
)
documents = values | st.dictionaries(st.sampled_from(["a", "b"]), st.lists(values, max_size=4), max_size=2)
layouts = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}, {"separators": (" ,\t", "\n:\r")}])


def boxed(value, path):
    """Return ``value`` with each element of the list that ``path`` leads to in a box of its own."""
    if isinstance(value, list) and not path:
        return [("box", one) for one in value]
    if isinstance(value, list):
        return [boxed(one, path) if isinstance(one, dict) else one for one in value]
    if isinstance(value, dict) and path:
        inner = {key: boxed(one, path[1:]) for key, one in value.items() if key == path[0] and isinstance(one, list)}
        return value | inner
    return value


def box(one):
    return ("box", one)


class Reader:
    """Reads lists of objects, and takes note of those that are really read."""

    def __init__(self):
        self.known = Known()
        self.seen = []

    def __call__(self, content):
        self.seen.clear()
        return read_elements(content, self._note, known=self.known)

    def _note(self, one):
        self.seen.append(one)
        return json.dumps(one)


@given(documents, st.sampled_from(PATHS), layouts)
def test_a_document_says_what_json_says_that_it_does(document, path, layout):
    text = json.dumps(document, **layout)
    known = Known()

    for _ in range(2):  # the second time out of what is known
        assert read_elements(text, box, path, known) == boxed(json.loads(text), path)
        assert read_elements(f" {text}\n".encode(), box, path, known) == boxed(json.loads(text), path)


@given(documents, st.sampled_from(PATHS), layouts, st.data())
def test_what_is_no_json_is_an_error_wherever_that_begins(document, path, layout, data):
    text = json.dumps(document, **layout)
    at = data.draw(st.integers(0, len(text)))
    broken = text[:at] + data.draw(st.sampled_from(["", "]", "}", ",", ":", '"', "1", "x", " "])) + text[at + 1 :]
    try:
        expected = boxed(json.loads(broken), path)
    except ValueError:
        with pytest.raises(ValueError):
            read_elements(broken, box, path)
    else:
        assert read_elements(broken, box, path) == expected


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '[{"a":' * 100_000])
def test_what_is_nested_too_deeply_is_an_error(text, path):
    with pytest.raises(RecursionError):
        read_elements(text, box, path)


def test_bytes_may_be_of_any_unicode():
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32-be"):
        assert read_elements('["ü"]'.encode(encoding), box) == [("box", "ü")]


def test_only_what_changed_is_read_again_wherever_it_stands():
    read = Reader()
    one, two, three = ({"id": number, "tail": "x" * 200} for number in (1, 2, 3))
    other = {"id": 2, "tail": "x" * 199 + "y"}
    read(json.dumps([one, two, three]))
    assert read.seen == [one, two, three]

    assert read(json.dumps([three, other, one])) == [json.dumps(each) for each in (three, other, one)]
    assert read.seen == [other]
    assert read(json.dumps([other, one, two])) == [json.dumps(each) for each in (other, one, two)]
    assert read.seen == [two], "what was left out once is forgotten"
    read("[]")
    assert read.known.made == []


def test_elements_that_begin_alike_are_told_apart():
    read = Reader()
    alike = [{"head": "x" * 500, "tail": tail} for tail in ("one", "two", "six", "seven")]

    for listed in (alike, alike[::-1], alike[1:3]):
        assert read(json.dumps(listed)) == [json.dumps(each) for each in listed]
    assert read(json.dumps(alike[1:])) == [json.dumps(each) for each in alike[1:]]
    assert read.seen == alike[3:], "the others follow each other as they did"


def test_a_number_that_begins_with_one_from_before_is_another():
    read = Reader()
    read("[1, 1]")

    assert read("[12, 1]") == ["12", "1"]


def test_what_cannot_be_read_takes_nothing_away():
    read = Reader()
    read('[{"id": 1}]')

    with pytest.raises(ValueError, match="Expecting"):
        read('[{"id": 2}, {"id"')
    read('[{"id": 1}]')
    assert read.seen == []


def test_everything_beside_the_elements_is_read_by_the_decoder_that_is_given():
    def pairs(found):
        return tuple(key for key, _ in found)

    decoder = json.JSONDecoder(object_pairs_hook=pairs)

    assert read_elements('{"a": [{"x": 1}], "b": {}}', box, ("a",), decoder=decoder) == ("a", "b")
    assert read_elements('[{"x": 1}]', box, decoder=decoder) == [("box", ("x",))]
