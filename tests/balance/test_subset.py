"""Metadata subsets: who matches, and Envoy's three ways to go on where nobody does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import RoundRobin, Subset, SubsetSelector
from svcmesh.balance.cell import Cell

E1, E2, E3, E4 = POOL = [
    Endpoint("e1:1", metadata={"stage": "prod", "version": "1.0", "type": "std"}),
    Endpoint("e2:1", metadata={"stage": "prod", "version": "1.1", "type": "std"}),
    Endpoint("e3:1", metadata={"stage": "dev", "version": "1.2-pre", "type": "std", "deep": {"version": "1.0"}}),
    Endpoint("e4:1"),
]


def picked(config, pool=POOL):
    picker = config.picker(pool, rng=random.Random(1))
    return {picker.pick() for _ in range(20)}


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"stage": "prod"}, {E1, E2}),
        ({"stage": "prod", "version": "1.1"}, {E2}),
        ([("type", "std")], {E1, E2, E3}),
        ({"version": "1.0"}, {E1}),  # not the one that has it further inside
        ({"stage": "prod", "version": "1.2-pre"}, {None}),
        ({"stage": None}, {None}),  # what is not there has no value
        ({"unheard": "of"}, {None}),
    ],
)
def test_all_criteria_must_be_met(criteria, expected):
    assert picked(Subset(criteria, RoundRobin())) == expected


def test_a_flag_is_no_number():
    """Envoy compares kinds first; whole numbers and others are one kind to it."""
    pool = [Endpoint(f"10.0.0.1:{n}", metadata={"canary": value}) for n, value in enumerate([True, 1, 1.0, "1"], 1)]
    assert picked(Subset({"canary": True}, RoundRobin()), pool) == {pool[0]}
    assert picked(Subset({"canary": 1}, RoundRobin()), pool) == {pool[1], pool[2]}
    assert picked(Subset({"canary": 0}, RoundRobin()), [Endpoint("a:1", metadata={"canary": False})]) == {None}


def test_each_value_of_a_list_counts_where_that_is_wanted():
    """As the default of Envoy and its `list_as_any`; Consul's tags come as a list."""
    kinds = [("blue", "v2"), ["blue", 2], (True,), "blue", (), [["blue", "v2"]]]
    pool = [Endpoint(f"10.0.0.1:{n}", metadata={"tags": value}) for n, value in enumerate(kinds, 1)]

    def found(value, *, any_: bool):
        return picked(Subset({"tags": value}, RoundRobin(), list_as_any=any_), pool)

    assert found("blue", any_=True) == {pool[0], pool[1], pool[3]}
    assert found("blue", any_=False) == {pool[3]}
    assert found(1, any_=True) == found("green", any_=True) == {None}
    assert found(True, any_=True) == {pool[2]}
    assert found(("blue", "v2"), any_=False) == {pool[0]}
    assert found(("blue", 2), any_=False) == {pool[1]}, "a list of a file is what a tuple of the same is"
    assert found(("blue", "v2"), any_=True) == {pool[5]}


def test_lists_count_so_for_the_fallback_too():
    pool = [Endpoint("a:1", metadata={"tags": ["old"]}), Endpoint("b:1", metadata={"tags": ["older"]})]
    chosen = Subset({"tags": "v3"}, fallback_policy="DEFAULT_SUBSET", default_subset={"tags": "old"}, list_as_any=True)
    assert picked(chosen, pool) == {pool[0]}


def test_fallbacks():
    nobody = {"stage": "qa"}
    assert picked(Subset(nobody)) == {None}
    assert picked(Subset(nobody, fallback_policy="NO_FALLBACK")) == {None}
    assert picked(Subset(nobody, RoundRobin(), "ANY_ENDPOINT")) == set(POOL)
    assert picked(Subset(nobody, RoundRobin(), "DEFAULT_SUBSET", {"stage": "dev"})) == {E3}
    assert picked(Subset(nobody, RoundRobin(), "DEFAULT_SUBSET", {"stage": "test"})) == {None}
    assert picked(Subset(nobody, RoundRobin(), "ANY_ENDPOINT"), []) == {None}


def test_fallbacks_by_the_names_that_are_looked_for():
    """Less and less, until somebody has it; the selector of what was looked for last says who is called otherwise."""
    both, stage = {"stage": "prod", "version": "9"}, SubsetSelector(["stage"], "ANY_ENDPOINT")
    less = SubsetSelector(["version", "stage"], "KEYS_SUBSET", ["stage"])
    assert picked(Subset(both, RoundRobin(), subset_selectors=[less, stage])) == {E1, E2}
    assert picked(Subset(both | {"stage": "qa"}, RoundRobin(), subset_selectors=[stage, less])) == set(POOL)
    assert picked(Subset(both | {"stage": "qa"}, RoundRobin(), subset_selectors=[less])) == {None}
    config = Subset(both, RoundRobin(), "DEFAULT_SUBSET", {"stage": "dev"}, [SubsetSelector(["version", "stage"])])
    assert picked(config) == {E3}

    three = SubsetSelector(["type", "version", "stage"], "KEYS_SUBSET", ["version", "stage"])
    config = Subset(both | {"type": "new"}, RoundRobin(), subset_selectors=[three, less, stage])
    assert picked(config) == {E1, E2}
    assert str(config).count(" or ") == 2
    assert hash(config) == hash(Subset(both | {"type": "new"}, RoundRobin(), subset_selectors=(three, less, stage)))


def test_a_fallback_is_for_nobody_at_all():
    """One endpoint is enough, even if it takes no traffic."""
    off = Endpoint("off:1", weight=0, metadata={"stage": "qa"})
    assert picked(Subset({"stage": "qa"}, fallback_policy="ANY_ENDPOINT"), [*POOL, off]) == {None}


values = st.sampled_from(["a", "b", 1, True, None])
metadata = st.dictionaries(st.sampled_from(["x", "y", "z"]), values)


def kinds(values):
    """Return names and values, of which flags are no numbers."""
    return {(name, value, isinstance(value, bool)) for name, value in values.items()}


@settings(max_examples=50, deadline=None)
@given(st.lists(metadata, max_size=8), metadata.filter(bool))
def test_who_matches_is_who_has_it_all(pool, criteria):
    cells = [Cell(Endpoint(f"e{n}:1", metadata=each)) for n, each in enumerate(pool)]
    found = Subset(criteria).members(cells)
    assert found == [cell for cell in cells if kinds(criteria) <= kinds(cell.endpoint.metadata)]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("metadata_match", {"metadata_match": {}}),
        ("metadata_match", {"metadata_match": "stage"}),
        ("metadata_match", {"metadata_match": {1: "prod"}}),
        ("metadata_match", {"metadata_match": {"stage": ["prod"]}}),
        ("fallback_policy", {"fallback_policy": "ANY"}),
        ("list_as_any", {"list_as_any": 1}),
        ("default_subset", {"default_subset": {"stage": "dev"}}),
        ("default_subset", {"fallback_policy": "DEFAULT_SUBSET"}),
        ("default_subset", {"subset_selectors": [SubsetSelector(["stage"], "DEFAULT_SUBSET")]}),
        ("subset_selectors", {"subset_selectors": None}),
        ("subset_selectors", {"subset_selectors": SubsetSelector(["stage"])}),
        ("subset_selectors", {"subset_selectors": ["stage"]}),
        ("subset_selectors.*two", {"subset_selectors": [SubsetSelector(["a"]), SubsetSelector(("a", "a"))]}),
        ("subset_selectors.*stage", {"subset_selectors": [SubsetSelector(["stage", "version"])]}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, wrong):
    with pytest.raises(ConfigError, match=field):
        Subset(**{"metadata_match": {"stage": "prod"}, **wrong})
