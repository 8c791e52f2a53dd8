"""Name servers that are slow, old, cut off, or hostile, by real sockets."""

from __future__ import annotations

import asyncio
import threading

import dns.flags
import dns.message
import dns.rcode
import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns import client as module
from svcmesh.discovery.dns.client import Client, resolver_for
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.dns.records import SRV, A
from tests.servers.name_server import NameServer, respond

ADDRESS = "web.svc.test. 60 IN A 10.0.0.1"
NO_TIME = 0.4
"""Seconds that silent servers are given, so that tests need not wait for as long as users do."""


def question(*servers, **more):
    found = tuple((host, int(port)) for host, _, port in (server.address.partition(":") for server in servers))
    return Question("web.svc.test", 80, servers=found, **more)


def ask(asked, name="web.svc.test", kind=A):
    before = threading.active_count()

    async def look():
        reply = await Client(asked).ask(name, kind)
        assert threading.active_count() == before, "it is asked without a thread"
        return reply

    return asyncio.run(look())


@pytest.fixture
def hurried(monkeypatch):
    """Give up on silence soon."""
    monkeypatch.setattr(module, "TIMEOUT", NO_TIME)
    monkeypatch.setattr(module, "LIFETIME", NO_TIME)


def test_a_server_is_asked_by_udp_with_edns():
    sizes = []

    def answer(query, _):
        sizes.append((query.edns, query.payload))
        return respond(query, ADDRESS).to_wire()

    with NameServer(answer) as server:
        assert ask(question(server)).addresses == ("10.0.0.1",)
        assert server.asked == [("web.svc.test.", "A", "udp")]
    assert sizes == [(0, 1232)]


def test_what_udp_cuts_off_is_asked_for_by_tcp():
    many = [f"web.svc.test. 60 IN A 10.0.{n // 200}.{n % 200 + 1}" for n in range(400)]

    def answer(query, by_tcp):
        return (
            respond(query, *many).to_wire(max_size=65535)
            if by_tcp
            else respond(query, many[0], flags=dns.flags.TC).to_wire()
        )

    with NameServer(answer) as server:
        assert len(ask(question(server)).addresses) == 400
        assert [protocol for _, _, protocol in server.asked] == ["udp", "tcp"]


def test_tcp_alone_can_be_asked_for():
    with NameServer(lambda query, _: respond(query, ADDRESS).to_wire()) as server:
        assert ask(question(server, tcp=True)).addresses == ("10.0.0.1",)
        assert [protocol for _, _, protocol in server.asked] == ["tcp"]


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_a_server_older_than_edns_is_asked_without(rcode):
    def answer(query, _):
        return (respond(query, ADDRESS) if query.edns < 0 else respond(query, rcode=rcode)).to_wire()

    with NameServer(answer) as server:
        assert ask(question(server)).addresses == ("10.0.0.1",)
        assert len(server.asked) == 2


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.YXDOMAIN])
def test_a_server_that_fails_is_an_error_and_no_empty_answer(rcode):
    with (
        NameServer(lambda query, _: respond(query, rcode=rcode).to_wire()) as server,
        pytest.raises(DiscoveryError, match=rf"'web.svc.test' \(A\) from {server.address}"),
    ):
        ask(question(server))


def test_a_name_that_does_not_exist_is_an_answer():
    with NameServer(lambda query, _: respond(query, rcode=dns.rcode.NXDOMAIN).to_wire()) as server:
        assert ask(question(server)).addresses == ()


def test_the_next_server_is_asked_when_one_fails():
    broken = NameServer(lambda query, _: respond(query, rcode=dns.rcode.SERVFAIL).to_wire())
    with broken, NameServer(lambda query, _: respond(query, ADDRESS).to_wire()) as good:
        assert ask(question(broken, good)).addresses == ("10.0.0.1",)
        assert len(broken.asked) == 1


def other_id(query):
    answer = respond(query, "web.svc.test. 60 IN A 10.6.6.6")
    answer.id ^= 1
    return answer.to_wire()


def other_question(query):
    asked = dns.message.make_query("evil.test", "A", id=query.id)
    return respond(asked, "evil.test. 60 IN A 10.6.6.6").to_wire()


HOSTILE = {
    "silence": lambda _: None,
    "nothing": lambda _: b"",
    "noise": lambda _: b"\xff" * 512,
    "a header alone": lambda query: query.to_wire()[:12],
    "half an answer": lambda query: respond(query, ADDRESS).to_wire()[:-7],
    "the question": lambda query: query.to_wire(),
    "another identifier": other_id,
    "another question": other_question,
    "a name that points to itself": lambda query: query.to_wire()[:2] + b"\x81\0\0\1\0\1\0\0\0\0\xc0\x0c\0\1\0\1",
    "a count of what is not there": lambda query: query.to_wire()[:2] + b"\x81\0\0\1\xff\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_answers_are_an_error(how, tcp, hurried):
    """None is believed, and none is another exception. By UDP the right answer is waited for all the same."""
    with NameServer(lambda query, _: HOSTILE[how](query)) as server, pytest.raises(DiscoveryError, match="no answer"):
        ask(question(server, tcp=tcp))


def test_aliases_in_a_circle_are_an_error():
    circle = ("web.svc.test. 5 IN CNAME b.svc.test.", "b.svc.test. 5 IN CNAME web.svc.test.")
    with (
        NameServer(lambda query, _: respond(query, *circle).to_wire()) as server,
        pytest.raises(DiscoveryError, match="no answer"),
    ):
        ask(question(server))


def test_a_large_answer_is_read_whole():
    rows = [f"_web._tcp. 60 IN SRV 0 1 {n + 1} t{n}." for n in range(2500)]
    wire = respond(dns.message.make_query("_web._tcp.", "SRV"), *rows).to_wire(max_size=65535)  # it takes its time
    with NameServer(lambda query, _: query.id.to_bytes(2, "big") + wire[2:]) as server:
        assert len(ask(question(server, srv=True, tcp=True), "_web._tcp", SRV).services) == 2500


def test_search_domains_are_tried_in_order():
    def answer(query, _):
        there = query.question[0].name.to_text() == "web.b.test."
        code = dns.rcode.NOERROR if there else dns.rcode.NXDOMAIN
        return (
            respond(query, "web.b.test. 60 IN A 10.0.0.1", rcode=code).to_wire()
            if there
            else respond(query, rcode=code).to_wire()
        )

    with NameServer(answer) as server:
        assert ask(question(server, search=("a.test", "b.test")), "web").addresses == ("10.0.0.1",)
        assert [name for name, _, _ in server.asked] == ["web.a.test.", "web.b.test."]


def test_without_search_a_name_stands_as_it_is():
    with NameServer(lambda query, _: respond(query, rcode=dns.rcode.NXDOMAIN).to_wire()) as server:
        ask(question(server), "web")
        ask(question(server, search=("a.test",)), "web.test.")
        assert {name for name, _, _ in server.asked} == {"web.", "web.test."}


def test_the_systems_search_list_is_used_where_it_is_asked_for(monkeypatch):
    import dns.name
    import dns.resolver

    def configured(self, *_):
        self.search = [dns.name.from_text("sys.test.")]
        self.nameservers = ["192.0.2.1"]

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", configured)
    with NameServer(lambda query, _: respond(query, ADDRESS).to_wire()) as server:
        ask(question(server, search=("",)), "web")
        assert server.asked[0][0] == "web.sys.test."


def test_a_machine_without_name_servers_is_an_error(monkeypatch):
    import dns.resolver

    def none(*_):
        raise dns.resolver.NoResolverConfiguration("cannot open /etc/resolv.conf")

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", none)
    with pytest.raises(DiscoveryError, match="name the server in the URI"):
        resolver_for(Question("web", 80), [])


def test_a_server_may_be_named(monkeypatch, tmp_path):
    """As in a compose file: ``dns://consul:8600/…``."""
    from svcmesh.discovery.dns import hosts

    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 consul\n")
    monkeypatch.setattr(hosts, "HOSTS", file)
    with NameServer(lambda query, _: respond(query, ADDRESS).to_wire()) as server:
        port = int(server.address.partition(":")[2])
        asked = Question("web.svc.test", 80, servers=(("consul", port),))
        assert ask(asked).addresses == ("10.0.0.1",)


def test_a_cancellation_that_dnspython_loses_is_heeded():
    """`asyncio.wait_for` of Python 3.11 returns what came in the same moment, as if nobody had cancelled."""

    class Losing:
        edns = 0

        async def resolve(self, *_, **__):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return type("Answer", (), {"response": None})

    async def main():
        task = asyncio.create_task(Client(Question("web", 80), Losing()).ask("web", A))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_question_can_be_cancelled():
    async def main(asked):
        task = asyncio.create_task(Client(asked).ask("web.svc.test", A))
        while not server.asked:  # noqa: ASYNC110 - it is asked in another thread
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with NameServer(lambda *_: None) as server:
        asyncio.run(main(question(server)))
