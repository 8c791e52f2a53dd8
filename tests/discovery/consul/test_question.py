"""The query of a Consul URI: what it means, and that what means nothing is an error."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.consul.backend import ConsulRegistry
from svcmesh.discovery.consul.question import names_service, question_of
from svcmesh.discovery.uri import open_discovery, open_service, parse


def asked(uri):
    return question_of(parse(uri))


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("", [("stale", "")]),
        ("?stale", [("stale", "")]),
        ("?stale=false", []),
        ("?consistent", [("consistent", "")]),
        ("?leader=true", [("leader", "")]),
        ("?cached", [("cached", "")]),
        ("?passing", [("passing", ""), ("stale", "")]),
        ("?dc=dc2&near=_agent", [("stale", ""), ("dc", "dc2"), ("near", "_agent")]),
        ("?ns=team&partition=p", [("stale", ""), ("ns", "team"), ("partition", "p")]),
        ("?tag=a&tag=b&node-meta=rack:7", [("stale", ""), ("tag", "a"), ("tag", "b"), ("node-meta", "rack:7")]),
        ("?filter=Service.Meta.version+%3D%3D+%222%22", [("stale", ""), ("filter", 'Service.Meta.version == "2"')]),
    ],
)
def test_the_query_goes_along(query, params):
    assert list(asked(f"consul://c:1/web{query}").params) == params


@pytest.mark.parametrize(
    ("uri", "name", "is_query"),
    [
        ("consul://c:1", "orders", False),
        ("consul://c:1/", "orders", False),
        ("consul://c:1/web", "web", False),
        ("consul://c:1/eu-{service}", "eu-orders", False),
        ("consul://c:1/a%2Fb", "a/b", False),
        ("consul://c:1?service=web", "web", False),
        ("consul://c:1/near?query", "near", True),
        ("consul://c:1?query=near", "near", True),
        ("consul://c:1?query=near-{service}", "near-orders", True),
        ("consul://c:1?query", "orders", True),
        ("consul+unix:///run/c.sock?service=web", "web", False),
        ("consul+unix:///run/c.sock", "orders", False),
        ("consul+unix://%2Frun%2Fc.sock/web", "web", False),
    ],
)
def test_the_name_comes_from_the_uri_or_from_who_asks(uri, name, is_query):
    question = asked(uri)

    assert (question.named("orders"), question.is_query) == (name, is_query)
    assert names_service(parse(uri)) == ("orders" not in name)


def test_times_are_seconds_or_have_a_unit():
    question = asked("consul://c:1/web?wait=5m&every=500ms&max-stale=2")

    assert (question.wait, question.every, question.max_stale) == (300.0, 0.5, 2.0)


def test_the_address_and_the_order_of_near():
    assert asked("consul://c:1?address=wan").reading.address == "wan"
    assert asked("consul://c:1?address=lan").reading.address == "", "which is the usual one"
    assert asked("consul://c:1?near=_agent").reading.ordered


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?ragion=eu", "unknown key 'ragion'.*known are address"),
        ("?token=secret", "unknown key 'token'"),
        ("?dc=a&dc=b", "dc stands twice"),
        ("?dc=", "dc has no value"),
        ("?tag", "tag has no value"),
        ("?stale&consistent", "exclude each other"),
        ("?cached&consistent", "exclude each other"),
        ("?stale=maybe", "stale is true or false"),
        ("?wait=0", "wait is a time"),
        ("?wait=11m", "wait is a time from 1 to 600 s"),
        ("?wait=1h", "wait is a time"),
        ("?every=0", "every is a time"),
        ("?max-stale=-1", "max-stale is a time"),
        ("?limit=3", "prepared queries only"),
        ("?query&passing", "prepared query says itself"),
        ("?service=orders", "names a service twice"),
        ("/", "no more"),
        ("/{name}", "no more"),
        ("-{service}/{service}", "no more"),
    ],
)
def test_what_means_nothing_is_an_error_without_values(query, told):
    with pytest.raises(ConfigError, match=told) as caught:
        asked(f"consul://c:1/web{query}")
    assert "secret" not in str(caught.value)


def test_a_uri_stands_for_a_service_only_with_a_name():
    surroundings = {"clock": SYSTEM, "emit": silent, "environ": {}}

    assert isinstance(open_service("consul://c:1/web", **surroundings), ConsulRegistry)
    assert isinstance(open_discovery("consul://c:1", **surroundings), ConsulRegistry)
    assert isinstance(open_discovery("consul://c:1/web-{service}", **surroundings), ConsulRegistry)
    with pytest.raises(ConfigError, match="no service"):
        open_service("consul://c:1", **surroundings)
