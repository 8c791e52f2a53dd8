"""What differs in a Consul's DNS by how it is set up and how it is asked: cuts, aliases, rights, other datacenters.

What a real agent is known to answer alike is in tests/discovery/consul/test_dns_contract.py.
"""

from __future__ import annotations

import socket
import threading

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.update
import pytest

import svcmesh
from svcmesh.core.errors import ConfigError
from svcmesh.testing import FakeConsul
from tests.servers.consul_agent import ask_dns


@pytest.fixture
def consul():
    with FakeConsul(dns_port=0) as consul:
        yield consul


def texts(answer):
    return sorted(record.to_text() for rows in answer.answer for record in rows)


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize(("edns", "low", "high"), [(False, 3, 3), (512, 3, 3), (1232, 8, 39)])
def test_an_answer_by_udp_is_cut_and_says_so_only_where_it_is_told_to(truncate, edns, low, high):
    with FakeConsul(dns_port=0, dns_truncate=truncate) as consul:
        for port in range(40):
            consul.register("orders", port=1000 + port, address=f"10.0.0.{port + 1}")
        answer = ask_dns(consul.dns_address, "orders.service.consul", "SRV", edns=edns)
        by_tcp = ask_dns(consul.dns_address, "orders.service.consul", "SRV", tcp=True)

    assert low <= len(texts(answer)) <= high
    assert len(answer.additional) == len(texts(answer)), "no address of who is left out"
    assert len(answer.to_wire(max_size=65535)) <= max(512, edns or 0)
    assert bool(answer.flags & dns.flags.TC) is truncate
    assert len(texts(by_tcp)) == 40
    assert not by_tcp.flags & dns.flags.TC


def test_which_instances_are_left_out_is_chance(consul):
    for port in range(20):
        consul.register("orders", port=1000 + port)
    answers = {tuple(texts(ask_dns(consul.dns_address, "orders.service.consul", "SRV"))) for _ in range(20)}

    assert len(answers) > 1


def test_one_answer_that_is_too_large_is_sent_all_the_same(consul):
    consul.register("orders", port=80, address=".".join(["x" * 60] * 4))
    answer = ask_dns(consul.dns_address, "orders.service.consul", "SRV")

    assert len(texts(answer)) == 1


def test_an_address_that_is_a_name_is_an_alias(consul):
    consul.register("db", port=80, address="db.example.org")

    assert texts(ask_dns(consul.dns_address, "db.service.consul", "A")) == ["db.example.org."]
    service = ask_dns(consul.dns_address, "db.service.consul", "SRV")
    assert texts(service) == ["1 1 80 db.example.org."]
    assert service.additional == []


def test_a_name_without_such_records_is_empty_and_no_error(consul):
    consul.register("orders", port=80)
    answer = ask_dns(consul.dns_address, "orders.service.consul", "AAAA")

    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
    assert "SOA" in answer.authority[0].to_text()


def test_other_domains_are_refused(consul):
    assert ask_dns(consul.dns_address, "example.org", "A").rcode() == dns.rcode.REFUSED


def test_targets_can_be_asked_for_by_themselves(consul):
    consul.register("orders", port=80, address="10.0.0.7")
    consul.register("nodes", port=80, address="")

    for name in ("orders", "nodes"):
        answer = ask_dns(consul.dns_address, f"{name}.service.consul", "SRV")
        (target,) = answer.additional
        found = ask_dns(consul.dns_address, target.name.to_text(), "A")
        assert texts(found) == [target[0].to_text()]
    assert ask_dns(consul.dns_address, "unknown.node.consul", "A").rcode() == dns.rcode.NXDOMAIN
    assert ask_dns(consul.dns_address, "zz.addr.dc1.consul", "A").rcode() == dns.rcode.NXDOMAIN


def test_other_datacenters_and_prepared_queries_are_asked_by_name(consul):
    entry = {"Node": {"Node": "n", "Address": "10.9.0.1"}, "Service": {"ID": "x", "Port": 7, "Tags": []}, "Checks": []}
    consul.elsewhere("eu", "orders", [entry])
    consul.register("orders", port=80)
    consul.query("pick", "orders")

    assert texts(ask_dns(consul.dns_address, "orders.service.eu.consul", "A")) == ["10.9.0.1"]
    assert texts(ask_dns(consul.dns_address, "pick.query.consul", "A")) == ["127.0.0.1"]
    for missing in ("orders.service.us.consul", "nothing.query.consul"):
        assert ask_dns(consul.dns_address, missing, "A").rcode() == dns.rcode.NXDOMAIN


def test_questions_have_no_token(consul):
    consul.register("orders", port=80)
    consul.allow({"reader": ["service:read", "node:read"], "": []})
    assert ask_dns(consul.dns_address, "orders.service.consul", "A").rcode() == dns.rcode.NXDOMAIN

    consul.allow({"": ["service:read", "node:read"]})
    assert texts(ask_dns(consul.dns_address, "orders.service.consul", "A")) == ["127.0.0.1"]


def test_it_answers_again_at_the_same_address_after_a_stop(consul):
    consul.register("orders", port=80)
    address = consul.dns_address
    consul.stop()
    with pytest.raises((OSError, dns.exception.Timeout)):
        ask_dns(address, "orders.service.consul", "A", tcp=True, timeout=1.0)
    consul.start()

    assert consul.dns_address == address
    assert texts(ask_dns(address, "orders.service.consul", "A")) == ["127.0.0.1"]


def test_what_is_no_question_is_not_answered_and_hurts_nobody(consul):
    consul.register("orders", port=80)
    host, _, port = consul.dns_address.rpartition(":")
    update = dns.update.UpdateMessage("consul").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for noise in (b"", b"\xff" * 40, update, dns.message.Message().to_wire()):
            udp.sendto(noise, (host, int(port)))
    with socket.create_connection((host, int(port))) as tcp:
        tcp.sendall(len(update).to_bytes(2, "big") + update)
        assert tcp.recv(1) == b""

    assert texts(ask_dns(consul.dns_address, "orders.service.consul", "A")) == ["127.0.0.1"]


def test_a_connection_that_asks_nothing_does_not_keep_it_from_stopping(consul):
    host, _, port = consul.dns_address.rpartition(":")
    with socket.create_connection((host, int(port))) as tcp:
        stopping = threading.Thread(target=consul.stop)
        stopping.start()
        stopping.join(10)
        assert not stopping.is_alive()
        assert tcp.recv(1) == b""


def test_without_a_port_there_is_no_dns():
    with FakeConsul() as consul, pytest.raises(ConfigError, match="dns_port=0"):
        _ = consul.dns_address


def test_a_port_that_is_taken_is_an_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            FakeConsul(dns_port=taken.getsockname()[1])


def test_a_mesh_finds_instances_of_another_datacenter_by_name(consul):
    entry = {"Node": {"Node": "n", "Address": "10.9.0.1"}, "Service": {"ID": "x", "Port": 7, "Tags": []}, "Checks": []}
    consul.elsewhere("eu", "orders", [entry])
    with svcmesh.Mesh(f"dns+srv://{consul.dns_address}/{{service}}.service.eu.consul") as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(10)
        assert [endpoint.address for endpoint in orders.endpoints] == ["10.9.0.1:7"]
