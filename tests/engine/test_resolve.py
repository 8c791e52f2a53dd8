"""Names become addresses on the loop, by the hosts file and by name servers, and no thread is left by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from svcmesh.discovery.dns import hosts as hosts_file
from svcmesh.engine import resolve as module
from svcmesh.engine.resolve import resolve


class NameServer(asyncio.DatagramProtocol):
    """Knows ``known.example``, and nothing else exists."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked.append(question.name.to_text())
        answer = dns.message.make_response(query)
        known = {dns.rdatatype.A: ("A", "10.0.0.7"), dns.rdatatype.AAAA: ("AAAA", "2001:db8::7")}
        if question.name.to_text() == "known.example.":
            kind, text = known[question.rdtype]
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, text))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(module, "_resolver", lambda: resolver)
    try:
        yield server
    finally:
        transport.close()


async def test_name_servers_are_asked_without_a_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For addresses of both families; a name that nobody knows has none."""
    monkeypatch.setattr(hosts_file, "HOSTS", tmp_path / "none")
    before = threading.active_count()
    async with name_server(monkeypatch) as server:
        assert sorted(await resolve("known.example")) == ["10.0.0.7", "2001:db8::7"]
        assert await resolve("unknown.example") == []
        assert set(server.asked) == {"known.example.", "unknown.example."}
    assert threading.active_count() == before


async def test_the_hosts_file_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In any case of letters, with comments and lines that mean nothing."""
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "# known.example\n10.0.0.1 a Known.Example b # known\n\nnonsense known.example\n::2 known.example\n"
    )
    monkeypatch.setattr(hosts_file, "HOSTS", hosts)
    async with name_server(monkeypatch) as server:
        assert await resolve("KNOWN.example.") == ["10.0.0.1", "::2"]
        assert server.asked == []


@pytest.mark.parametrize("host", ["localhost", "app.localhost"])
async def test_the_loopback_needs_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str) -> None:
    """Nor a name server; a file that is no text is as good as none."""
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"\xff\xfe 10.0.0.1 localhost")
    monkeypatch.setattr(hosts_file, "HOSTS", hosts)

    assert await resolve(host) == ["127.0.0.1", "::1"]
