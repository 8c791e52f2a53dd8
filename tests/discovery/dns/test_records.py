"""What answers say, and that nobody's bytes make them say anything but a reply or one kind of error."""

from __future__ import annotations

import asyncio
import re

import dns.message
import dns.nameserver
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.clock import SYSTEM
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.backend import DnsDiscovery
from svcmesh.discovery.dns.client import Client, resolver_for
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.dns.records import AAAA, SRV, TXT, A, Service, read
from tests.servers.name_server import respond

SOA = "svc.test. 60 IN SOA ns.svc.test. root.svc.test. 1 60 30 3600 3"


def answer(kind, *records, name="web.svc.test.", **fields):
    sent = respond(dns.message.make_query(name, kind), *records, **fields)
    return read(dns.message.from_wire(sent.to_wire()), kind)


def test_addresses_are_in_order_and_there_once():
    reply = answer(A, *(f"web.svc.test. 9 IN A 10.0.0.{n}" for n in (10, 9, 2, 9)))

    assert reply.addresses == ("10.0.0.2", "10.0.0.9", "10.0.0.10")
    assert reply.ttl == 9


def test_aliases_are_followed_and_the_shortest_time_counts():
    reply = answer(
        AAAA, "web.svc.test. 300 IN CNAME a.svc.test.", "a.svc.test. 7 IN CNAME b.test.", "b.test. 60 IN AAAA fd00::1"
    )

    assert reply.addresses == ("fd00::1",)
    assert reply.ttl == 7


def test_addresses_that_reach_nobody_are_left_out():
    """Filters of names answer with 0.0.0.0, and connecting to it reaches this machine."""
    assert answer(A, "web.svc.test. 9 IN A 0.0.0.0", "web.svc.test. 9 IN A 224.0.0.1").addresses == ()
    assert answer(AAAA, "web.svc.test. 9 IN AAAA ::", "web.svc.test. 9 IN AAAA ff02::1").addresses == ()


def test_texts_are_joined_of_their_strings():
    reply = answer(TXT, 'web.svc.test. 9 IN TXT "b" "c"', r'web.svc.test. 7 IN TXT "a\195\164\255"')

    assert reply.texts == ("aä\ufffd", "bc")
    assert reply.ttl <= 9
    assert answer(TXT, rcode=dns.rcode.NXDOMAIN, authority=[SOA]).texts == ()


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_a_no_is_kept_as_its_zone_says(rcode):
    assert answer(A, rcode=rcode, authority=[SOA]).ttl == 3
    assert answer(A, rcode=rcode, authority=[SOA.replace(" 60 IN", " 2 IN")]).ttl == 2


@pytest.mark.parametrize("kind", [A, SRV])
def test_a_no_without_a_time_of_its_own_is_soon_asked_for_again(kind):
    """Some servers (dnsmasq) leave the SOA out; and a zone may want its noes to be kept for a day."""
    assert answer(kind).ttl <= 30
    assert answer(kind, authority=[SOA.replace("3600 3", "3600 86400").replace(" 60 IN", " 86400 IN")]).ttl == 30


def test_services_have_what_came_along():
    reply = answer(
        SRV,
        "web.svc.test. 60 IN SRV 20 5 8082 b.svc.test.",
        "web.svc.test. 60 IN SRV 10 5 8081 A.svc.test.",
        extra=["a.svc.test. 9 IN A 10.0.0.1", "a.svc.test. 8 IN AAAA fd00::1", "other.test. 1 IN A 10.6.6.6"],
    )

    assert reply.services == (Service(10, 5, 8081, "a.svc.test"), Service(20, 5, 8082, "b.svc.test"))
    assert reply.extra == {("a.svc.test", 4): ("10.0.0.1",), ("a.svc.test", 6): ("fd00::1",)}
    assert reply.ttl == 8
    assert not reply.absent


def test_addresses_of_another_class_are_none():
    """Those of Chaosnet are numbers, and one that nobody knows may hold anything."""
    reply = answer(
        SRV,
        "_web._tcp.svc.test. 9 IN SRV 1 1 80 a.svc.test.",
        name="_web._tcp.svc.test.",
        extra=["a.svc.test. 9 CH A . 1", "a.svc.test. 9 CLASS77 A \\# 4 0a060606"],
    )

    assert reply.services == (Service(1, 1, 80, "a.svc.test"),)
    assert reply.extra == {}


def test_a_lone_dot_is_a_decided_no():
    reply = answer(SRV, "web.svc.test. 3600 IN SRV 0 0 0 .")

    assert (reply.absent, reply.services, reply.ttl) == (True, (), 30)


class Wire(dns.nameserver.Nameserver):
    """A name server of dnspython's that answers with given bytes, as if they had come by TCP."""

    def __init__(self, wire, *, like=False):
        self.wire = wire
        self.like = like

    def __str__(self):
        return "wire"

    def is_always_max_size(self):
        return True

    def answer_nameserver(self):
        return "wire"

    def answer_port(self):
        return 53

    async def async_query(self, request, **_):
        wire = self.wire
        if self.like:  # the right question, so that what follows it is read
            wire = request.to_wire()[:2] + b"\x80\x00" + wire
        try:
            return dns.message.from_wire(wire)
        except Exception as error:
            raise EOFError from error  # so that dnspython does not come back to this server, after a real pause


async def ask(wire, *, like=False, **question):
    asked = Question("web.svc.test", 80, servers=(("127.0.0.1", 53),), **question)
    resolver = resolver_for(asked, asked.servers)
    resolver.nameservers = [Wire(wire, like=like)]
    watch = DnsDiscovery(asked, clock=SYSTEM, client=Client(asked, resolver)).watch("web")
    try:
        return await anext(watch)
    except DiscoveryError as error:
        return error
    finally:
        await watch.aclose()


def all_endpoints(outcome):
    return isinstance(outcome, DiscoveryError) or all(isinstance(e, Endpoint) for e in outcome.endpoints)


GOOD = respond(
    dns.message.make_query("web.svc.test.", "SRV"),
    "web.svc.test. 60 IN SRV 20 5 8082 b.svc.test.",
    "web.svc.test. 60 IN SRV 10 5 8081 a.svc.test.",
    extra=["a.svc.test. 9 IN A 10.0.0.1", "b.svc.test. 8 IN AAAA fd00::1"],
).to_wire()


def test_the_fuzzed_way_leads_to_endpoints():
    """Else what follows would prove nothing."""
    found = asyncio.run(ask(GOOD[4:], like=True, srv=True))

    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.1:8081", "[fd00::1]:8082"]


@given(st.binary(max_size=200), st.booleans(), st.booleans())
@settings(max_examples=100)
def test_any_bytes_are_a_snapshot_or_a_discovery_error(wire, like, srv):
    assert all_endpoints(asyncio.run(ask(wire, like=like, srv=srv)))


@given(st.lists(st.tuples(st.integers(4, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
@settings(max_examples=100)
def test_a_spoilt_answer_is_a_snapshot_or_a_discovery_error(changes, cut):
    spoilt = bytearray(GOOD)
    for at, value in changes:
        spoilt[at] = value
    wire = bytes(spoilt[4 : changes[0][0] if cut else None])

    assert all_endpoints(asyncio.run(ask(wire, like=True, srv=True)))


@given(st.text(max_size=90))
def test_any_name_can_be_asked_for_or_is_refused(name):
    class Silent:
        async def ask(self, name, kind):
            raise DiscoveryError("silence")

    async def look():
        await anext(DnsDiscovery(Question("{service}", 80), clock=SYSTEM, client=Silent()).watch(name))

    if re.fullmatch(r"[0-9.]+|\[?[0-9a-f:.]+\]?", name):
        return  # may be an address
    with pytest.raises(DiscoveryError):
        asyncio.run(look())


@pytest.mark.parametrize("name", ["", "..", "a..b", "x" * 64, "x." * 130, "a\\b", "\\", "\ud800", "xn--\u00fc" * 9])
def test_what_is_no_name_is_not_asked_for(name):
    client = Client(Question(name, 80, servers=(("127.0.0.1", 9),)))

    with pytest.raises(DiscoveryError, match="no name that DNS knows"):
        asyncio.run(client.ask(name, A))
