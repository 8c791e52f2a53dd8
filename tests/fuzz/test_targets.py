"""What `make fuzz` runs works: each decoder understands its seeds, and bears what is made of them."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.shapes import ODD, changed
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_understood(name, monkeypatch):
    """Else fuzzing would only ever see what is refused at once."""
    seen = []
    monkeypatch.setattr(targets, "used", seen.extend)
    for seed in TARGETS[name].seeds:
        TARGETS[name].decode(seed)

    assert seen


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_of_seeds_is_borne(name):
    @settings(max_examples=40)
    @given(st.sampled_from(TARGETS[name].seeds), st.integers(), st.integers(0, 2**20), st.binary(max_size=8))
    def check(seed, chance, place, noise):
        other = changed(seed, 10_000, Random(chance))
        place %= len(seed)
        TARGETS[name].decode(seed[:place] + noise + seed[place + len(noise) :] if other is None else other)

    check()


def test_changes_leave_json_json_and_small():
    document = b'{"a": [1, {"b": null}], "c": "text"}'
    made = [changed(document, 200, Random(number)) for number in range(200)]
    kept = {one for one in made if one is not None}

    assert all(len(one) <= 200 for one in kept)
    assert len({json.dumps(json.loads(one)) for one in kept}) > 50
    assert changed(b"10.0.0.1:80", 200, Random(1)) is None


def test_changes_of_changes_never_hold_themselves():
    before = repr(ODD)
    for number in range(300):
        document = b"[]"
        for step in range(10):
            document = changed(document, 2_000, Random(number * 10 + step)) or document

    assert repr(ODD) == before
