"""What is sent to register: the agent's own field names, checks of every kind, and nothing that it would refuse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcmesh
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.definition import checks_of, definition
from svcmesh.testing.consul.agent import service_record


def announcement(**fields):
    return Announcement("web", "web-1", fields.pop("address", "10.0.0.1:80"), **fields)


def sent(**fields):
    return json.loads(definition(announcement(**fields)))


def test_the_body_has_the_agents_field_names():
    assert sent(tags=("a", "b"), meta={"version": "2"}, weight=5, ttl=9.0) == {
        "ID": "web-1",
        "Name": "web",
        "Address": "10.0.0.1",
        "Port": 80,
        "Tags": ["a", "b"],
        "Meta": {"version": "2"},
        "Weights": {"Passing": 5, "Warning": 1},
        "Checks": [
            {
                "Name": "heartbeat",
                "CheckID": "service:web-1",
                "TTL": "9000ms",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": "60000ms",
            }
        ],
    }


def test_the_address_may_be_ipv6_or_a_socket():
    assert sent(address="[2001:db8::1]:80")["Address"] == "2001:db8::1"
    socket = sent(address="unix:/run/web.sock")
    assert socket["SocketPath"] == "/run/web.sock"
    assert "Port" not in socket


def test_the_locality_is_metadata_that_own_keys_override():
    meta = sent(locality=Locality("eu", "eu-1"), meta={"zone": "mine"})["Meta"]

    assert meta == {"region": "eu", "zone": "mine"}


def test_who_drains_comes_back_as_critical():
    (check,) = json.loads(definition(announcement(), draining=True))["Checks"]

    assert check["Status"] == "critical"


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("/healthz", {"Name": "http", "HTTP": "http://10.0.0.1:80/healthz"}),
        ("http://10.0.0.1:81/h?x=1", {"Name": "http", "HTTP": "http://10.0.0.1:81/h?x=1"}),
        ("https://web.example/h", {"Name": "http", "HTTP": "https://web.example/h"}),
        ("tcp", {"Name": "tcp", "TCP": "10.0.0.1:80"}),
        ("tcp://10.0.0.1:81", {"Name": "tcp", "TCP": "10.0.0.1:81"}),
        ("grpc", {"Name": "grpc", "GRPC": "10.0.0.1:80"}),
        ("grpc://10.0.0.1:81/pkg.Svc", {"Name": "grpc", "GRPC": "10.0.0.1:81/pkg.Svc", "GRPCUseTLS": False}),
        ("grpcs://10.0.0.1:81", {"Name": "grpc", "GRPC": "10.0.0.1:81", "GRPCUseTLS": True}),
    ],
)
def test_checks_are_written_as_urls_or_for_the_own_address(check, expected):
    (found,) = checks_of(announcement(check=check, ttl=30.0))

    usual = {"CheckID": "service:web-1", "DeregisterCriticalServiceAfter": "90000ms"}
    assert found == expected | usual | {"Interval": "30000ms", "Timeout": "10000ms"}


def test_checks_in_consuls_words_and_several_of_them():
    given_ = [{"HTTP": "http://h/", "Interval": "5s"}, "tcp", {"TTL": "7s", "ID": "mine"}]
    first, second, third = checks_of(announcement(check=given_))

    assert [c["CheckID"] for c in (first, second, third)] == ["service:web-1:1", "service:web-1:2", "mine"]
    assert first["Interval"] == "5s"
    assert third["TTL"] == "7s"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weight": 0}, "weight must be a whole number from 1"),
        ({"weight": 1.5}, "weight"),
        ({"weight": 65536}, "weight"),
        ({"meta": {"a.b": "c"}}, "meta: the key 'a.b'"),
        ({"meta": {"k" * 129: "c"}}, "meta: the key"),
        ({"meta": {"consul-version": "1"}}, "meta: the key 'consul-version' begins with 'consul-'"),
        ({"meta": {"k": "v" * 513}}, "512 bytes"),
        ({"meta": {f"k{n}": "v" for n in range(65)}}, "65 keys"),
        ({"check": 3}, "check must be a URL"),
        ({"check": "ping"}, "'ping'"),
        ({"check": "http://user:secret@h/"}, "without a user"),
        ({"check": "tcp://h:1/x"}, "nothing follows"),
        ({"check": "tcp://h"}, "no port"),
        ({"check": []}, "empty list"),
        ({"check": {"http": "http://h/", "Interval": "5s"}}, "field 'http', which Consul does not know"),
        ({"check": {"HTTP": "http://h/"}}, "needs an Interval"),
        ({"check": {"OSService": "nginx"}}, "needs an Interval"),
        ({"check": {"Name": "x"}}, "must have one of TTL"),
        ({"check": {"TTL": "5s", "Interval": "5s"}}, "TTL stands alone"),
        ({"check": {"TTL": "5s", "Notes": object()}}, "JSON"),
    ],
)
def test_what_consul_can_never_take_is_said_where_it_is_made(fields, told):
    with pytest.raises(ConfigError, match=told):
        definition(announcement(**fields))


def test_registering_says_it_before_anything_is_tried():
    with svcmesh.Mesh("consul://127.0.0.1:1") as mesh, pytest.raises(ConfigError, match="weight"):
        mesh.register("web", port=80, weight=0.5)


texts = st.text(st.sampled_from("abc_-09"), min_size=1, max_size=8)


@given(st.lists(st.text(max_size=5), max_size=3), st.dictionaries(texts, st.text(max_size=20), max_size=4))
def test_what_is_sent_an_agent_takes(tags, meta):
    body = sent(tags=tuple(tags), meta=meta)
    body.pop("Checks")
    record = service_record(body)

    assert (record["Tags"], record["Meta"]) == (tags, meta)
