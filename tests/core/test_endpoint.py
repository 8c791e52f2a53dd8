"""Endpoints: values that can be compared, hashed, copied and pickled."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from types import MappingProxyType

import pytest

from svcmesh import ConfigError, Endpoint, Locality
from svcmesh.core.endpoint import PICKED, Health, assembled, locality_of, with_known_keys

FULL = Endpoint(
    "10.0.0.1:80",
    weight=2.5,
    locality=Locality("r", "z"),
    priority=1,
    metadata={"version": "2", "nested": {"a": [1]}},
    health=Health.DEGRADED,
)


class Text(str):
    """A string of another type than str."""

    __slots__ = ()


class Weight(float):
    """A number of another type than float."""


class Whole(int):
    """A number of another type than int."""


def test_defaults():
    endpoint = Endpoint("a:1")

    assert (endpoint.weight, endpoint.locality, endpoint.priority, endpoint.health) == (1, None, 0, Health.HEALTHY)
    assert dict(endpoint.metadata) == {}
    assert (endpoint.host, endpoint.port) == ("a", 1)


def test_equality_is_by_all_fields_and_the_hash_by_address():
    assert Endpoint("a:1", weight=2) != Endpoint("a:1")
    assert hash(Endpoint("a:1", weight=2)) == hash(Endpoint("a:1"))
    assert dataclasses.replace(FULL) == FULL


def test_all_that_one_has_is_in_one_place_in_memory():
    """A dict beside it would double the time that making takes, and every look at its counts would wait for memory."""
    assert not hasattr(FULL, "__dict__")


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize("endpoint", [FULL, PICKED])
def test_copies_are_equal_and_read_only(endpoint, twin):
    """Copying and pickling keep every field, and the metadata stay read-only."""
    copied = twin(endpoint)

    assert copied == endpoint
    with pytest.raises(TypeError):
        copied.metadata["x"] = 1


@pytest.mark.parametrize("endpoint", [FULL, PICKED])
def test_what_is_assembled_of_checked_fields_is_what_the_constructor_makes(endpoint):
    """Backends, which have looked at every field, need not have them looked at again."""
    metadata = with_known_keys(dict(endpoint.metadata))
    fields = endpoint.address, endpoint.weight, endpoint.locality, endpoint.priority, metadata, endpoint.health
    found = assembled(*fields)

    assert found == endpoint
    assert (type(found), hash(found)) == (Endpoint, hash(endpoint))
    with pytest.raises(TypeError):
        found.metadata["x"] = 1


def test_it_is_frozen_and_keeps_no_reference_to_the_callers_dict():
    metadata = {"a": 1}
    endpoint = Endpoint("a:1", metadata=metadata)
    metadata["a"] = 2

    assert endpoint.metadata["a"] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        endpoint.weight = 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"address": "a"}, "no port"),
        ({"weight": -1}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"weight": 10**400}, "weight"),
        ({"weight": "1"}, "weight"),
        ({"weight": True}, "weight"),
        ({"priority": -1}, "priority"),
        ({"priority": 0.5}, "priority"),
        ({"metadata": None}, "metadata"),
        ({"metadata": "ab"}, "metadata"),
        ({"health": "healthy"}, "health"),
        ({"locality": "zone-a"}, "locality"),
    ],
)
def test_bad_fields_are_named(fields, says):
    with pytest.raises(ConfigError, match=says):
        Endpoint(**{"address": "a:1", **fields})


def test_fields_of_unusual_types_that_fit_are_taken_as_ever():
    """What fails the first, quick look is looked at thoroughly, and only refused by that."""
    metadata = MappingProxyType({Text("version"): "2"})
    endpoint = Endpoint(Text("orders.internal:80"), weight=Weight(2.5), priority=Whole(1), metadata=metadata)

    assert endpoint == Endpoint("orders.internal:80", weight=2.5, priority=1, metadata={"version": "2"})


@pytest.mark.parametrize("metadata", [{1: "x"}, MappingProxyType({"a": 1, None: 2})])
def test_keys_of_metadata_are_text(metadata):
    with pytest.raises(ConfigError, match="every key in the metadata"):
        Endpoint("10.0.0.1:80", metadata=metadata)


def test_one_place_is_one_object():
    assert locality_of("eu", "eu-1") is locality_of("eu", "eu-1")
    assert locality_of("eu", "eu-1") == Locality("eu", "eu-1")
    assert locality_of() is None


def test_keys_of_metadata_are_in_memory_once():
    """Each endpoint of a registry's answer has key texts of its own, and thousands have the same few."""
    one, other = (Endpoint("a:1", metadata=json.loads('{"version": "1"}')) for _ in range(2))

    assert next(iter(one.metadata)) is next(iter(other.metadata))
