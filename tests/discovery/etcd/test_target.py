"""Paths as keys: where the name of a service goes, and which keys are its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.etcd.target import Target, names_service, range_end, registry_of, service_of
from svcmesh.discovery.uri import parse


@pytest.mark.parametrize(
    ("path", "expected", "root"),
    [
        ("", b"orders/", b""),
        ("/", b"orders/", b""),
        ("//", b"/orders/", b"/"),
        ("/apps", b"apps/orders/", b"apps/"),
        ("/apps/", b"apps/orders/", b"apps/"),
        ("//apps/v1", b"/apps/v1/orders/", b"/apps/v1/"),
        ("/%2Fapps", b"/apps/orders/", b"/apps/"),
        ("/apps/{service}", b"apps/orders/", b"apps/"),
        ("/apps/{service}/grpc/", b"apps/orders/grpc/", b"apps/"),
        ("/{service}", b"orders/", b""),
        ("/%7Bservice%7D", b"orders/", b""),
    ],
)
def test_a_registry_has_a_place_for_a_name(path, expected, root):
    target = registry_of(parse(f"etcd://h{path}"))

    assert (target.prefix("orders"), target.root) == (expected, root)


@pytest.mark.parametrize(("path", "expected"), [("/a", b"a/"), ("//a/b/", b"/a/b/"), ("/a%20b", b"a b/")])
def test_a_uri_of_one_service_is_its_key(path, expected):
    uri = parse(f"etcd://h{path}")

    assert service_of(uri).prefix("whatever it is called") == expected
    assert names_service(uri)


@pytest.mark.parametrize("path", ["", "/", "//", "/apps/{service}", "/%7Bservice%7D"])
def test_a_uri_without_a_key_is_of_no_service(path):
    assert not names_service(parse(f"etcd://h{path}"))


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("/apps/{name}", "braces"),
        ("/apps?wiat=3", "unknown key 'wiat'"),
        ("/apps?wait=0", "wait is a time"),
        ("/apps?wait=5&wait=6", "stands twice"),
        ("/%00", "NUL"),
    ],
)
def test_what_cannot_be_meant_is_refused(rest, told):
    with pytest.raises(ConfigError, match=told):
        registry_of(parse(f"etcd://h{rest}"))


@pytest.mark.parametrize("name", ["", "\ud800", "a" * 5000])
def test_names_that_no_key_has_are_refused(name):
    with pytest.raises(DiscoveryError, match="keys for names"):
        Target().prefix(name)


def test_how_long_a_watch_may_be_silent_can_be_said():
    assert registry_of(parse("etcd://h/apps?wait=5s")).wait == 5
    assert registry_of(parse("etcd://h/apps")).wait == 30


@given(st.binary(), st.binary())
def test_the_end_of_a_range_is_behind_all_that_begins_so_and_nothing_else(prefix, key):
    end = range_end(prefix)

    assert key.startswith(prefix) == (key >= prefix and (end == b"\0" or key < end))
