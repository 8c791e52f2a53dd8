"""A registration survives its way to disk and back; bytes of unknown origin are a registration or a ValueError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.announced import LARGEST
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.record import boot_id, decode, edition, encode, stamp, stamped_at

GREETER = Announcement(
    "greeter",
    "g-1",
    "10.0.0.1:50051",
    tags=("v2",),
    meta={"version": "2"},
    weight=3,
    locality=Locality("eu", "a"),
    ttl=7.5,
)


def encoded(announcement=GREETER, **changes):
    return encode(announcement, **{"since": 12.5, "draining": False, "owner": "me", "pid": 42, **changes})


def edited(**changes):
    return json.dumps({**json.loads(encoded()), **changes}).encode()


def test_everything_comes_back():
    record = decode(encoded())

    assert (record.service, record.id, record.ttl, record.since) == ("greeter", "g-1", 7.5, 12.5)
    assert record.endpoint == Endpoint(
        "10.0.0.1:50051", weight=3, locality=Locality("eu", "a"), metadata={"version": "2", "tags": ("v2",)}
    )
    assert (record.draining, record.owner, record.boot) == (False, "me", boot_id())


def test_without_tags_the_metadata_is_what_was_given():
    assert dict(decode(encoded(Announcement("s", "i", "a:1", meta={"k": "v"}))).endpoint.metadata) == {"k": "v"}


def test_keys_of_newer_writers_are_ignored():
    assert decode(edited(colour="red")) == decode(encoded())


def test_draining_is_kept():
    assert decode(encoded(draining=True)).draining


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "nowhere"},
        {"address": "a:70000"},
        {"weight": float("nan")},
        {"weight": -1},
        {"ttl": 0},
        {"ttl": float("inf")},
        {"meta": {"k": 7}},
        {"meta": {"k": object()}},
        {"meta": {"k": "x" * LARGEST}},
    ],
)
def test_what_readers_would_skip_is_refused_when_written(changes):
    with pytest.raises(ConfigError):
        encoded(Announcement(**{"service": "s", "id": "i", "address": "a:1", **changes}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (encoded()[:-10], "no JSON"),
        (b"\x00\xff\xfe binary", "no JSON"),
        (b"[" * 50_000, "deep"),
        (b"x" * (LARGEST + 1), "larger"),
        (b"[]", "not written by svcmesh"),
        (b"{}", "not written by svcmesh"),
        (edited(svcmesh=2), "version"),
        (edited(address="nowhere"), "no port"),
        (edited(address=7), "address"),
        (edited(address=None), "address"),
        (edited(weight="1"), "weight"),
        (edited(weight=True), "weight"),
        (edited(weight=-1), "weight"),
        (edited(ttl=float("nan")), "ttl"),
        (edited(ttl=float("inf")), "ttl"),
        (edited(ttl=0), "ttl"),
        (edited(ttl=1e9), "ttl"),
        (edited(since=float("nan")), "since"),
        (edited(since=float("inf")), "since"),
        (edited(state="sleeping"), "state"),
        (edited(meta=[]), "meta"),
        (edited(meta={"k": 1}), "text"),
        (edited(tags="v2"), "tags"),
        (edited(tags=[1]), "text"),
        (edited(locality={"rack": "x"}), "locality"),
        (edited(locality=7), "locality"),
        (edited(owner=None), "owner"),
        (encoded().replace(b"12.5", b"1" * 400), "since"),
        (encoded().replace(b"7.5", b"1" * 5000), "JSON"),
    ],
)
def test_hostile_content_is_a_value_error_that_says_what(content, told):
    with pytest.raises(ValueError, match=told):
        decode(content)


values = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=2))


@given(st.sampled_from(sorted(json.loads(encoded()))), values)
def test_any_value_in_any_field_is_read_or_refused(field, value):
    try:
        decode(edited(**{field: value}))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - the other outcome is a record


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with pytest.raises(ValueError, match=r"."):
        decode(content)


@given(st.floats(0, 1e8), st.integers(0, 10**9))
def test_a_time_stamp_holds_the_instant_and_the_edition(now, number):
    mtime = stamp(now, number)

    assert now - 2e-6 < stamped_at(mtime) <= now + 1e-7
    assert edition(mtime) == number % 1000
    assert edition(stamp(now + 1, edition(mtime))) == edition(mtime), "a heartbeat keeps it"
