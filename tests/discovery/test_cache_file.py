"""A cache file is read back as it was written, or not at all."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery import cache_file
from svcmesh.discovery.cache_file import Saved, Subject, decode, encode
from svcmesh.discovery.listing import LARGEST_METADATA

ORDERS = Subject("orders", "consul://10.0.0.1:8500")
RICH = Endpoint(
    "10.0.0.1:8080",
    weight=2.5,
    locality=Locality("eu", "eu-1"),
    priority=1,
    metadata={"tags": ["a", "b"], "version": "7", "count": 3, "nothing": None, "deep": {"x": [1.5, True]}},
    health=Health.DEGRADED,
)


def read(content, subject=ORDERS):
    return decode(content, "FILE", subject)


def test_it_is_read_as_it_was_written():
    endpoints = (RICH, Endpoint("[2001:db8::1]:80"), Endpoint("unix:/run/app.sock", health=Health.UNHEALTHY))
    saved = read(encode(ORDERS, 1234.5, endpoints))

    assert saved.snapshot.endpoints == endpoints
    assert saved.at == 1234.5
    assert not saved.snapshot.authoritative, "what somebody knew once vouches for nothing"


def test_it_can_be_read_by_people_one_endpoint_a_line():
    lines = encode(ORDERS, 1.0, (RICH, Endpoint("b:1"))).decode().splitlines()

    assert lines[2] == '{"address": "b:1"}'


def test_services_and_sources_have_files_of_their_own():
    names = {
        ORDERS.file_name,
        Subject("orders", "consul://10.0.0.2:8500").file_name,
        Subject("Orders", ORDERS.source).file_name,
    }

    assert len(names) == 3
    assert "10.0.0.1" not in ORDERS.file_name, "who is asked is a hash"


@pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "a/b", "x" * 4000, "\0", "ü", "dns:///x?token=…"])
def test_any_name_of_a_service_is_the_name_of_one_file(name):
    file_name = Subject(name, "source").file_name

    assert "/" not in file_name
    assert not file_name.startswith(".")
    assert len(file_name) < 255


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(ConfigError, match="service"):
        _ = Subject("x" * 5000, "source").file_name


def changed(**fields):
    return json.dumps(json.loads(encode(ORDERS, 1.0, (RICH,))) | fields).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "FILE, line 1"),
        (b"\xff\xfe", "byte 0 is not ASCII"),
        (encode(ORDERS, 1.0, (RICH,))[:-20], "FILE"),
        (b"[]", "no cache"),
        (b"{}", "no cache"),
        (changed(more=1), "no cache"),
        (changed(schema=2), "form 2"),
        (changed(service="Orders"), "another service"),
        (changed(source="0" * 16), "another registry"),
        (changed(saved="now"), "saved must be a finite number"),
        (changed(saved=True), "saved must be a finite number"),
        (changed(endpoints={}), "expected a list"),
        (changed(endpoints=["nowhere"]), "nowhere"),
        (changed(endpoints=["a:1", "a:1"]), "twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"saved": NaN}', "NaN"),
    ],
)
def test_whatever_else_is_found_is_no_cache(content, why):
    with pytest.raises(DiscoveryError, match=why):
        read(content)


def test_a_file_of_another_service_or_registry_is_not_taken():
    content = encode(ORDERS, 1.0, (RICH,))

    for other in (Subject("stock", ORDERS.source), Subject("orders", "consul://10.0.0.2:8500")):
        with pytest.raises(DiscoveryError, match="another"):
            read(content, other)


def test_a_huge_file_is_not_even_decoded(monkeypatch):
    monkeypatch.setattr(cache_file, "LARGEST", 100)

    with pytest.raises(DiscoveryError, match="larger than 100 bytes"):
        read(b" " * 101)


class Opaque:
    """A value that only its backend understands."""


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("odd", [Opaque(), math.nan, math.inf, {1: "a", (2, 3): "b"}, {"x": Opaque()}, b"bytes", LOOP])
def test_metadata_that_json_cannot_hold_costs_only_itself(odd):
    endpoint = Endpoint("a:1", metadata={"odd": odd, "kept": "yes"})
    (found,) = read(encode(ORDERS, 1.0, (endpoint,))).snapshot.endpoints

    assert found.metadata == {"kept": "yes"}


@pytest.mark.parametrize(
    "metadata", [{"all": list(range(5000)), "kept": "yes"}, {str(n): [n] for n in range(5000)}, {1: 2, "1": 3}]
)
def test_metadata_beyond_what_can_be_read_back_is_left_out(metadata):
    metadata = {str(key): value for key, value in metadata.items()}
    (found,) = read(encode(ORDERS, 1.0, (Endpoint("a:1", metadata=metadata),))).snapshot.endpoints

    assert len(found.metadata) <= LARGEST_METADATA
    assert found.metadata.items() <= metadata.items()
    assert found.metadata.get("kept") == metadata.get("kept")


plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
values = plain | st.lists(plain, max_size=2) | st.dictionaries(st.integers(0, 2) | st.text("0a"), plain, max_size=2)
fields_of_endpoints = st.lists(
    st.builds(
        dict,
        address=st.builds("{}:{}".format, st.text("abc", min_size=1, max_size=3), st.integers(1, 65535)),
        weight=st.floats(0, 1e300) | st.integers(0, 2**53),
        locality=st.none() | st.builds(Locality, st.text(max_size=3), zone=st.text(max_size=3)),
        priority=st.integers(0, 10),
        metadata=st.dictionaries(st.text(max_size=3), values, max_size=2),
        health=st.sampled_from(Health),
    ),
    max_size=3,
    unique_by=lambda fields: fields["address"],
)


@given(fields_of_endpoints, st.floats(0, 1e12))
def test_any_endpoints_come_back_with_all_that_calls_go_by(several, saved_at):
    """Law: addresses, weights, localities, priorities and health survive; metadata as far as JSON has words for it."""
    endpoints = [Endpoint(**fields) for fields in several]
    saved = read(encode(ORDERS, saved_at, endpoints))
    kept = [(e.address, e.weight, e.locality, e.priority, e.health) for e in saved.snapshot.endpoints]

    assert kept == [(e.address, e.weight, e.locality, e.priority, e.health) for e in endpoints]
    assert saved.at == saved_at


documents = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["address", "weight"]), inner)
)
WHOLE = encode(ORDERS, 1.0, (RICH, Endpoint("b:1")))


@given(
    st.binary(max_size=200)
    | st.builds(lambda at, new: WHOLE[:at] + new + WHOLE[at + 1 :], st.integers(0, len(WHOLE)), st.binary(max_size=3))
    | st.builds(
        lambda key, value: changed(**{key: value}),
        st.sampled_from(["schema", "saved", "service", "endpoints"]),
        documents,
    )
)
def test_any_bytes_are_a_snapshot_or_a_discovery_error(content):
    """Law: nothing that a disk can hold raises anything else."""
    try:
        saved = read(content)
    except DiscoveryError:
        return
    assert isinstance(saved, Saved)
    assert math.isfinite(saved.at)
