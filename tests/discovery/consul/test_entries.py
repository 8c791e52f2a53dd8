"""Whatever Consul lists becomes endpoints with its weights and health; whatever is no answer is an error."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Health, Locality
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.consul.entries import (
    Reading,
    decode_allowed,
    decode_nodes,
    decode_query,
    decode_service,
    decode_services,
    status_of,
)
from svcmesh.discovery.elements import Known


def entry(address="10.0.0.1", port=80, *, status="passing", node=None, checks=None, **service):
    """Return an instance as Consul lists it."""
    if checks is None:
        checks = [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "c", "Status": status}]
    return {
        "Node": {"Node": "n1", "Address": "192.168.0.1", "Datacenter": "dc1", **(node or {})},
        "Service": {"ID": "web-1", "Service": "web", "Address": address, "Port": port, **service},
        "Checks": checks,
    }


def decode(*entries, **reading):
    return decode_service(json.dumps(entries).encode(), Reading(**reading))


def one(*args, address_tag="", **kwargs):
    (endpoint,) = decode(entry(*args, **kwargs), address=address_tag).endpoints
    return endpoint


def maintenance(check_id="_service_maintenance:web-1"):
    return [{"CheckID": "c", "Status": "passing"}, {"CheckID": check_id, "Status": "critical"}]


@pytest.mark.parametrize(
    ("service", "node", "expected"),
    [
        ("10.0.0.1", {}, "10.0.0.1:80"),
        ("", {}, "192.168.0.1:80"),
        (None, {}, "192.168.0.1:80"),
        ("web.example", {}, "web.example:80"),
        ("2001:db8::1", {}, "[2001:db8::1]:80"),
        ("[2001:db8::1]", {}, "[2001:db8::1]:80"),
        ("", {"Address": "fe80::1%eth0"}, "[fe80::1%eth0]:80"),
    ],
)
def test_the_address_is_the_services_else_its_nodes(service, node, expected):
    assert one(service, node=node).address == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("", "10.0.0.1:80"),
        ("wan", "1.2.3.4:443"),
        ("lan_ipv4", "10.9.9.9:80"),
        ("virtual", "192.168.0.77:80"),
        ("other", "10.0.0.1:80"),
    ],
)
def test_a_tagged_address_is_the_services_else_what_is_usual(tag, expected):
    tagged = {"wan": {"Address": "1.2.3.4", "Port": 443}, "lan_ipv4": {"address": "10.9.9.9", "port": 0}}
    node = {"TaggedAddresses": {"wan": "5.6.7.8", "virtual": "192.168.0.77"}}
    own = "" if tag == "virtual" else "10.0.0.1"

    assert one(own, node=node, TaggedAddresses=tagged, address_tag=tag).address == expected


def test_a_nodes_tagged_address_comes_before_its_plain_one():
    node = {"TaggedAddresses": {"wan": "5.6.7.8"}}

    assert one("", node=node, address_tag="wan").address == "5.6.7.8:80"
    assert one("10.0.0.1", node=node, address_tag="wan").address == "10.0.0.1:80", "the service's own comes first"


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"Name": "grpc", "Port": 9090}, {"Name": "http", "Port": 8080, "Default": True}], 8080),
        ([{"name": "grpc", "port": 9090}, {"name": "http", "port": 8080, "default": True}], 8080),
        ([{"Name": "grpc", "Port": 9090}, {"Name": "http", "Port": 8080}], 9090),
        ([None, {"Port": 9090}], 9090),
    ],
)
def test_of_several_ports_it_is_the_default_one(ports, expected):
    assert one(port=0, Ports=ports).address == f"10.0.0.1:{expected}"
    assert one(port=80, Ports=ports).address == "10.0.0.1:80"


def test_a_unix_socket_is_an_address():
    assert one("", 0, SocketPath="/run/web.sock").address == "unix:/run/web.sock"


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "passing"),
        (["passing"], "passing"),
        (["passing", "warning"], "warning"),
        (["warning", "critical", "passing"], "critical"),
        (["passing", "purple"], "critical"),
        ([None], "critical"),
    ],
)
def test_the_worst_check_is_the_status(statuses, expected):
    assert status_of([{"CheckID": str(n), "Status": status} for n, status in enumerate(statuses)]) == expected


@pytest.mark.parametrize("checks", [None, {}, "x", [None, 3, []]])
def test_what_are_no_checks_are_passing(checks):
    assert status_of(checks) == "passing"


@pytest.mark.parametrize("check_id", ["_node_maintenance", "_service_maintenance:web-1"])
def test_maintenance_takes_an_instance_out(check_id):
    found = decode(entry(checks=maintenance(check_id)), entry("10.0.0.2"))

    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.2:80"]
    assert found.listed == 2


@pytest.mark.parametrize(
    ("status", "weights", "weight", "health"),
    [
        ("passing", {"Passing": 5, "Warning": 2}, 5, Health.HEALTHY),
        ("warning", {"Passing": 5, "Warning": 2}, 2, Health.HEALTHY),
        ("warning", {"Passing": 5, "Warning": 0}, 0, Health.HEALTHY),
        ("critical", {"Passing": 5, "Warning": 2}, 5, Health.UNHEALTHY),
        ("passing", None, 1, Health.HEALTHY),
        ("passing", {}, 1, Health.HEALTHY),
        ("passing", {"Passing": "many"}, 1, Health.HEALTHY),
        ("passing", {"Passing": -1}, 1, Health.HEALTHY),
        ("passing", {"Passing": True}, 1, Health.HEALTHY),
        ("passing", {"Passing": 10**9}, 1, Health.HEALTHY),
    ],
)
def test_the_weight_is_that_of_the_status(status, weights, weight, health):
    endpoint = one(status=status, Weights=weights)

    assert (endpoint.weight, endpoint.health) == (weight, health)


@pytest.mark.parametrize(
    ("service", "node", "expected"),
    [
        ({"Meta": {"region": "eu", "zone": "eu-1"}}, {}, Locality("eu", "eu-1")),
        ({"Meta": {"az": "eu-1"}}, {}, Locality("", "eu-1")),
        ({"Locality": {"Region": "eu", "Zone": "eu-1"}, "Meta": {"zone": "no"}}, {}, Locality("eu", "eu-1")),
        ({}, {"Meta": {"zone": "eu-2", "sub_zone": "r7"}}, Locality("", "eu-2", "r7")),
        ({}, {"Locality": {"Region": "us", "Zone": None}}, Locality("us")),
        ({"Meta": {"zone": "eu-1"}}, {"Meta": {"zone": "eu-2"}}, Locality("", "eu-1")),
        ({"Meta": None}, {"Meta": None}, None),
        ({"Meta": {"zone": 3}}, {}, None),
    ],
)
def test_the_locality_comes_from_fields_or_metadata(service, node, expected):
    assert one(node=node, **service).locality == expected


def test_metadata_holds_what_selectors_need():
    endpoint = one(Meta={"version": "2", "odd": 3}, Tags=["blue", None, "canary"])

    assert dict(endpoint.metadata) == {
        "id": "web-1",
        "node": "n1",
        "datacenter": "dc1",
        "version": "2",
        "tags": ("blue", "canary"),
    }


def test_null_and_missing_fields_are_fine():
    bare = {"Node": {"Address": "10.0.0.9"}, "Service": {"Port": 80}, "Checks": None}

    assert [e.address for e in decode(bare).endpoints] == ["10.0.0.9:80"]
    nulls = dict.fromkeys(("Tags", "Meta", "Weights", "TaggedAddresses", "ID", "SocketPath"))
    assert one(checks=None, **nulls).weight == 1


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(("critical", "passing"), Health.HEALTHY), (("passing", "critical"), Health.HEALTHY)],
)
def test_of_two_at_one_address_the_one_that_is_well_counts(statuses, expected):
    (endpoint,) = decode(*(entry(status=status, node={"Node": status}) for status in statuses)).endpoints

    assert endpoint.health is expected
    assert endpoint.metadata["node"] == "passing"


def test_one_id_on_two_nodes_are_two_instances():
    assert len(decode(entry("10.0.0.1"), entry("10.0.0.2", node={"Node": "n2"})).endpoints) == 2


def test_the_order_is_by_address_unless_it_was_asked_for():
    entries = [entry("10.0.0.3"), entry("10.0.0.1"), entry("10.0.0.2")]

    assert [e.host for e in decode(*entries).endpoints] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [e.host for e in decode(*entries, ordered=True).endpoints] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        3,
        {},
        {"Service": None},
        entry(port=0),
        entry(port="80"),
        entry(port=True),
        entry(port=65536),
        entry(port=[[]]),
        entry("not a host"),
        entry("10.0.0.256"),
        entry("", node={"Address": ""}),
        entry("", 0, SocketPath="/run/\ud800.sock"),
        entry("", 0, SocketPath="relative"),
    ],
)
def test_an_entry_that_cannot_be_dialled_takes_no_other_away(bad):
    found = decode(bad, entry("10.0.0.2"))

    assert [e.host for e in found.endpoints] == ["10.0.0.2"]
    assert len(found.left_out) == 1
    with pytest.raises(DiscoveryError, match="no instance of 1 can be read"):
        decode(bad)


def test_what_is_left_out_is_named():
    (told,) = decode(entry(port=0), entry("10.0.0.2")).left_out

    assert "entry 0 ('web-1' on 'n1'): its port is 0" in told


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", b'"x"', b"3", b"[", b'[{"Node"', b"\xff\xfe", b"<html>", b"[" * 100_000, b"9" * 10_000],
)
def test_what_is_no_answer_is_an_error(body):
    with pytest.raises(DiscoveryError):
        decode_service(body)
    with pytest.raises(DiscoveryError):
        decode_query(body)


def test_an_unknown_service_is_empty():
    assert decode_service(b"[]") == ((), (), 0)


def test_a_prepared_query_has_its_instances_inside():
    body = json.dumps({"Service": "web", "Nodes": [entry()], "Datacenter": "dc2", "Failovers": 1}).encode()

    assert [e.address for e in decode_query(body).endpoints] == ["10.0.0.1:80"]
    assert decode_query(b'{"Nodes": null}').endpoints == ()


def test_a_catalogue_is_names():
    assert decode_services(b'{"consul": [], "web": ["a"]}') == {"consul", "web"}
    with pytest.raises(DiscoveryError):
        decode_services(b"[]")


def test_nodes_are_counted():
    assert decode_nodes(b'[{"Node": "n1"}, {"Node": "n2"}]') == 2
    with pytest.raises(DiscoveryError):
        decode_nodes(b"null")


@pytest.mark.parametrize("answer", [b"null", b"{}", b'[{"Allow": true}]'])
def test_rights_are_as_many_as_were_asked(answer):
    assert decode_allowed(b'[{"Resource": "node", "Allow": true}, {"Allow": "true"}, 1]', 3) == (True, False, False)
    with pytest.raises(DiscoveryError):
        decode_allowed(answer, 2)


@pytest.mark.parametrize(("decode", "form"), [(decode_service, "%s"), (decode_query, '{"Nodes": %s}')])
def test_an_instance_that_is_as_before_is_the_very_same_endpoint(decode, form):
    known = Known()
    answers = [
        form % json.dumps([entry("10.0.0.1"), entry("10.0.0.2", status=status), entry(port=0)])
        for status in ("passing", "critical")
    ]
    first, again, other = (decode(body.encode(), known=known) for body in (answers[0], answers[0], answers[1]))

    assert all(one is same for one, same in zip(first.endpoints, again.endpoints, strict=True))
    assert other.endpoints[0] is first.endpoints[0]
    assert [one.health for one in other.endpoints] == [Health.HEALTHY, Health.UNHEALTHY]
    assert first.left_out == other.left_out != ()


@given(st.binary(max_size=200))
def test_any_bytes_give_entries_or_an_error_of_ours(body):
    for decoder in (decode_service, decode_query, decode_services, decode_nodes, partial(decode_allowed, count=1)):
        with suppress(DiscoveryError):
            decoder(body)


keys = ["Node", "Service", "Checks", "Address", "Port", "Weights", "Passing", "Warning", "Meta", "Tags", "Status"]
keys += ["CheckID", "TaggedAddresses", "wan", "Locality", "Region", "Zone", "zone", "SocketPath", "ID", "Nodes"]
keys += ["Ports", "Default"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=6),
    max_leaves=20,
)
hosts = st.sampled_from(["10.0.0.1", "", "::1", "[::1]", "a b", "web.example", "\ud800", "127.1"]) | values
services = st.fixed_dictionaries(
    {"Address": hosts, "Port": st.integers(-1, 70000) | values},
    optional=dict.fromkeys(["ID", "Tags", "Meta", "Weights", "TaggedAddresses", "SocketPath", "Locality"], values)
    | {"Ports": values},
)
statuses = st.sampled_from(["passing", "warning", "critical", ""]) | values
checks = st.lists(st.fixed_dictionaries({"CheckID": values, "Status": statuses}) | values, max_size=3) | values
nodes = st.fixed_dictionaries({"Address": hosts}, optional=dict.fromkeys(["Node", "Meta", "Locality"], values))
near_entries = st.fixed_dictionaries({"Node": nodes | values, "Service": services | values, "Checks": checks})


@given(st.lists(near_entries | values, max_size=6), st.sampled_from(["", "wan"]))
def test_answers_that_are_nearly_right_give_a_snapshot_or_an_error_of_ours(answer, tag):
    try:
        found = decode_service(json.dumps(answer).encode(), Reading(tag))
    except DiscoveryError:
        return
    Snapshot(found.endpoints)
    assert len(found.endpoints) + len(found.left_out) <= len(answer) == found.listed
    for endpoint in found.endpoints:
        hash(endpoint)
        assert repr(endpoint)


@given(st.permutations([entry("10.0.0.1"), entry("10.0.0.2", status="warning"), entry("10.0.0.2"), entry(port=0)]))
def test_the_order_of_an_answer_makes_no_difference(entries):
    assert decode(*entries).endpoints == decode(*sorted(entries, key=json.dumps)).endpoints
