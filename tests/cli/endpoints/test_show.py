"""Endpoints as people and programs read them, whatever a registry holds."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.cli.endpoints.show import as_json, line, printable, table
from svcmesh.core.endpoint import Endpoint, Health, Locality

PLAIN = Endpoint("10.0.0.1:80")
FULL = Endpoint(
    "[fd00::1]:8080",
    weight=2.5,
    priority=1,
    health=Health.DEGRADED,
    locality=Locality("eu", "", "rack 7"),
    metadata={"tags": ("a", "b"), "version": 2},
)


def test_a_table_has_columns() -> None:
    assert table([PLAIN, FULL]) == [
        "ADDRESS         WEIGHT  PRIORITY  HEALTH    LOCALITY    METADATA",
        "10.0.0.1:80     1       0         healthy   -           -",
        "[fd00::1]:8080  2.5     1         degraded  eu//rack 7  tags=a,b version=2",
    ]


def test_json_has_every_field() -> None:
    assert json.loads(line(as_json(FULL))) == {
        "address": "[fd00::1]:8080",
        "weight": 2.5,
        "priority": 1,
        "health": "degraded",
        "locality": ["eu", "", "rack 7"],
        "metadata": {"tags": ["a", "b"], "version": 2},
    }
    assert json.loads(line(as_json(PLAIN)))["locality"] is None


def test_what_json_does_not_know_is_text() -> None:
    assert json.loads(line(as_json(Endpoint("a:1", metadata={"x": {1}}))))["metadata"] == {"x": "{1}"}


def test_a_registry_sends_nothing_to_the_terminal() -> None:
    """Escape sequences could change its colours, its title, or what was printed before."""
    told = "\n".join(table([Endpoint("a:1", metadata={"k\x1b[2J": "v\r\n\x9b31m\u202e"}, locality=Locality("\x07"))]))

    assert "\x1b" not in told
    assert r"k\x1b[2J=v\r\n\x9b31m\u202e" in told
    assert r"\x07" in told


@given(st.text())
def test_whatever_is_shown_is_printable_and_what_is_printable_is_kept(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text
