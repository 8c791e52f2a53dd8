"""Selectors of metadata subsets: names without an order, and what cannot be said with them."""

from __future__ import annotations

import pickle

import pytest

from svcmesh import ConfigError
from svcmesh.balance import SubsetSelector


def test_the_order_of_names_says_nothing() -> None:
    one = SubsetSelector(["stage", "version"], "KEYS_SUBSET", ["stage"])
    other = SubsetSelector(iter(("version", "stage", "stage")), "KEYS_SUBSET", {"stage"})

    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("keys", {"keys": []}),
        ("keys", {"keys": "stage"}),
        ("keys", {"keys": [1]}),
        ("keys", {"keys": None}),
        ("fallback_policy", {"fallback_policy": "ANY"}),
        ("fallback_policy", {"fallback_policy": []}),
        ("fallback_keys_subset", {"fallback_policy": "KEYS_SUBSET"}),
        ("fallback_keys_subset", {"fallback_keys_subset": ["stage"]}),
        ("fallback_keys_subset", {"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["stage", "version"]}),
        ("fallback_keys_subset", {"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["type"]}),
        ("fallback_keys_subset", {"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": "stage"}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=field):
        SubsetSelector(**{"keys": ["stage", "version"], **wrong})
