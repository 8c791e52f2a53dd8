"""Consul's DNS, of the fake and of a real agent: what it answers, and what ``dns://`` and ``dns+srv://`` make of it."""

from __future__ import annotations

from itertools import count

import dns.flags
import dns.rcode
import pytest

import svcmesh
from tests.servers.consul_agent import ask_dns, fake_or_real, until

_numbers = count()


@pytest.fixture(scope="module", params=["fake", "real"])
def consul(request):
    with fake_or_real(request.param) as api:
        yield api


@pytest.fixture
def name():
    """Return a name that no other test uses."""
    return f"dns-orders-{next(_numbers)}"


@pytest.fixture
def mesh():
    with svcmesh.Mesh({}) as mesh:
        yield mesh


def asked(consul, name, kind, **how):
    return ask_dns(consul.dns_address, name, kind, tcp=True, **how)


def texts(answer):
    return sorted(record.to_text() for rows in answer.answer for record in rows)


def watched(mesh, uri):
    service = mesh.service(uri)
    service.wait_ready(30)
    return service


def found(service):
    return sorted(endpoint.address for endpoint in service.endpoints)


# -- what Consul does ----------------------------------------------------------------------------------------------


def test_a_service_has_addresses_that_may_be_kept_for_no_second(consul, name):
    consul.register(name, 80, Address="10.0.0.1")
    consul.register(name, 81, Address="10.0.0.2")
    consul.register(name, 82, Address="fd00::1")
    consul.settle(name, 3)
    four, six = (asked(consul, f"{name}.service.consul", kind) for kind in ("A", "AAAA"))

    assert texts(four) == ["10.0.0.1", "10.0.0.2"]
    assert texts(six) == ["fd00::1"]
    assert four.answer[0].ttl == 0
    assert four.flags & dns.flags.AA


def test_instances_with_one_address_have_one_record(consul, name):
    consul.register(name, 80)
    consul.register(name, 81)
    consul.settle(name, 2)

    assert texts(asked(consul, f"{name}.service.consul", "A")) == ["127.0.0.1"]
    assert len(texts(asked(consul, f"{name}.service.consul", "SRV"))) == 2


@pytest.mark.parametrize(
    "asking", ["{}.service.consul", "_{}._tcp.service.consul", "_{}._tcp.consul", "{}.SERVICE.Consul"]
)
def test_srv_records_bring_their_addresses(consul, name, asking):
    consul.register(name, 80, Address="10.0.0.1", Weights={"Passing": 7, "Warning": 2})
    consul.settle(name, 1)
    answer = asked(consul, asking.format(name), "SRV")

    (record,) = answer.answer[0]
    assert (record.priority, record.weight, record.port) == (1, 7, 80)
    assert record.target.to_text() == "0a000001.addr.dc1.consul."
    assert [(rows.name, rows[0].to_text()) for rows in answer.additional if rows.rdtype == 1] == [
        (record.target, "10.0.0.1")
    ]


def test_an_instance_without_address_points_to_its_node(consul, name):
    consul.register(name, 80, Address="")
    consul.settle(name, 1)
    (record,) = asked(consul, f"{name}.service.consul", "SRV").answer[0]
    node = consul.health(name)[1][0]["Node"]["Node"]

    assert record.target.to_text() == f"{node}.node.dc1.consul."
    assert texts(asked(consul, record.target.to_text(), "A")) == ["127.0.0.1"]


def test_who_is_critical_is_left_out_and_who_warns_has_the_weight_of_a_warning(consul, name):
    consul.register(name, 80, Address="10.0.0.1", Weights={"Passing": 7, "Warning": 2})
    consul.register(name, 81, Address="10.0.0.2", status="warning", Weights={"Passing": 7, "Warning": 2})
    consul.register(name, 82, Address="10.0.0.3", status="critical")
    consul.settle(name, 3)

    assert texts(asked(consul, f"{name}.service.consul", "A")) == ["10.0.0.1", "10.0.0.2"]
    weights = {r.port: r.weight for r in asked(consul, f"{name}.service.consul", "SRV").answer[0]}
    assert weights == {80: 7, 81: 2}


@pytest.mark.parametrize("asking", ["blue.{}.service.consul", "_{}._blue.service.consul", "BLUE.{}.service.dc1.consul"])
def test_a_tag_narrows_what_is_found(consul, name, asking):
    consul.register(name, 80, Address="10.0.0.1", Tags=["Blue"])
    consul.register(name, 81, Address="10.0.0.2", Tags=["green"])
    consul.settle(name, 2)

    assert [r.port for r in asked(consul, asking.format(name), "SRV").answer[0]] == [80]


@pytest.mark.parametrize("asking", ["{}.service.consul", "red.{}.service.consul", "{}.service.nowhere.consul"])
def test_what_is_not_there_is_no_name(consul, name, asking):
    known = f"{name}-known"
    consul.register(known, 80)
    consul.settle(known, 1)
    answer = asked(consul, asking.format(name if asking.startswith("{}.service.c") else known), "SRV")

    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert [rows.rdtype for rows in answer.authority] == [6]


def test_udp_shows_three_to_who_does_not_know_edns(consul, name):
    for number in range(1, 9):
        consul.register(name, 80, Address=f"10.0.0.{number}", ID=f"{name}-{number}")
    consul.settle(name, 8)
    shown = ask_dns(consul.dns_address, f"{name}.service.consul", "A")
    larger = ask_dns(consul.dns_address, f"{name}.service.consul", "A", edns=1232)

    assert len(texts(shown)) == 3
    assert not shown.flags & dns.flags.TC
    assert len(texts(larger)) == 8


# -- what svcmesh makes of it --------------------------------------------------------------------------------------


def test_instances_come_and_go(consul, mesh, name):
    consul.register(name, 8001, Address="10.0.0.1", Weights={"Passing": 3, "Warning": 1})
    consul.settle(name, 1)
    service = watched(mesh, f"dns+srv://{consul.dns_address}/{name}.service.consul?tcp&max-ttl=1s")
    assert [(e.address, e.priority, e.weight) for e in service.endpoints] == [("10.0.0.1:8001", 0, 3)]

    second = consul.register(name, 8002, Address="fd00::2")
    until(lambda: found(service) == ["10.0.0.1:8001", "[fd00::2]:8002"])
    consul.set_status(second, "critical")
    until(lambda: found(service) == ["10.0.0.1:8001"])


def test_a_name_and_a_port_find_the_same(consul, mesh, name):
    consul.register(name, 8001, Address="10.0.0.1", Tags=["blue"])
    consul.register(name, 8001, Address="10.0.0.2", ID=f"{name}-other")
    consul.settle(name, 2)

    assert found(watched(mesh, f"dns://{consul.dns_address}/{name}.service.consul:9000")) == [
        "10.0.0.1:9000",
        "10.0.0.2:9000",
    ]
    assert found(watched(mesh, f"dns://{consul.dns_address}/blue.{name}.service.consul:9000")) == ["10.0.0.1:9000"]


def test_more_than_udp_holds_is_found_by_tcp(consul, mesh, name):
    for number in range(1, 41):
        consul.register(name, 8000 + number, Address=f"10.0.1.{number}")
    consul.settle(name, 40)

    assert len(watched(mesh, f"dns+srv://{consul.dns_address}/{name}.service.consul?tcp").endpoints) == 40
    assert 0 < len(watched(mesh, f"dns+srv://{consul.dns_address}/{name}.service.consul").endpoints) < 40
