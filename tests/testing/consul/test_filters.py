"""Filter expressions keep what Consul keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.testing.consul.answers import HttpError, seconds
from svcmesh.testing.consul.filters import compile_filter

ENTRY = {
    "Service": {"Service": "web", "Port": 80, "Tags": ["a", "canary"], "Meta": {"version": "2", "x-y": "z"}},
    "Node": {"Meta": {}},
    "Checks": [{"Status": "passing"}, {"Status": "warning"}],
}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('Service.Meta.version == "2"', True),
        ("Service.Meta.version == 2", True),
        ("Service.Meta.version != `2`", False),
        ('Service.Meta.nothing == "2"', False),
        ('Service.Meta.nothing != "2"', True),
        ('"canary" in Service.Tags', True),
        ('"canary" not in Service.Tags', False),
        ('Service.Tags contains "b"', False),
        ('Service.Tags not contains "b"', True),
        ('"version" in Service.Meta', True),
        ('Service.Service matches "^w.b$"', True),
        ('Service.Service not matches "^x"', True),
        ("Service.Port == 80 and Node.Meta is empty", True),
        ("Service.Tags is not empty", True),
        ('Checks.Status == "warning"', True),
        ('Checks.Status == "critical"', False),
        ('Service.Port == 81 or (Service.Port == 80 and not "b" in Service.Tags)', True),
        ("not Service.Port == 80 or Service.Port == 80", True),
        ('Service.Meta.x-y == "z"', True),
    ],
)
def test_an_expression_keeps_or_drops(text, kept):
    assert compile_filter(text)(ENTRY) is kept


@pytest.mark.parametrize("text", ["", "a", "a ==", "a == 1 and", "(a == 1", "a is full", "a == 1 b", "a ~ b", "not"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(HttpError) as caught:
        compile_filter(text)
    assert caught.value.status == 400


@given(st.text(max_size=20))
def test_any_text_is_an_expression_or_refused(text):
    try:
        kept = compile_filter(text)
    except HttpError:
        return
    assert kept({}) in {True, False}


@pytest.mark.parametrize(("text", "expected"), [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("1.5h", 5400)])
def test_durations_are_gos(text, expected):
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "10", "s", "1 s", "-1s", "10x"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="invalid duration"):
        seconds(text)
