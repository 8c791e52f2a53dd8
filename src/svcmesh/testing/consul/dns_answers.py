"""What a fake Consul answers to a DNS question, as its agents do: live instances, shuffled, good for no second.

Critical instances and those in maintenance are left out, and those with a warning have the weight that theirs is. By
UDP an answer is cut, and only where ``truncate`` is set does it say so: without EDNS to three records, else to what
the caller takes. No token goes with a question, so it is answered as HTTP is to who sends none.

Source: Consul's `agent/dns/router_response.go`, `message_serializer.go`, `agent/dns.go`.
"""

from __future__ import annotations

import ipaddress
import random
from bisect import bisect_right
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype

from svcmesh.testing.consul.answers import HttpError, Reply, Request
from svcmesh.testing.consul.dns_names import DOMAIN, Asked, asked_by
from svcmesh.testing.consul.dns_records import Row, address_rows, service_row, start_of_authority
from svcmesh.testing.consul.reads import Reads, status_of
from svcmesh.testing.consul.store import Record

UDP_ANSWERS = 3
"""Records in an answer by UDP to who does not know EDNS (Consul's ``udp_answer_limit``)."""

_PLAIN = 512  # bytes of an answer to who does not know EDNS
_LARGEST = 65_535
_ROOT = dns.name.from_text(f"{DOMAIN}.")


class DnsAnswers:
    """Answers questions. Threads: one loop.

    Args:
        reads: what is known. truncate: say of an answer that was cut that it was (``enable_truncate``).
    """

    def __init__(self, reads: Reads, *, truncate: bool = False) -> None:
        self._reads = reads
        self._truncate = truncate

    def answer(self, wire: bytes, *, by_tcp: bool) -> bytes | None:
        """Return the answer to a question; None when this is none."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if not isinstance(query, dns.message.QueryMessage) or len(query.question) != 1 or query.flags & dns.flags.QR:
            return None
        question = query.question[0]
        if not question.name.is_subdomain(_ROOT):
            return _response(query, dns.rcode.REFUSED).to_wire()
        rows = self._rows(question.name, question.rdtype)
        if not rows:
            missing = _response(query, dns.rcode.NXDOMAIN if rows is None else dns.rcode.NOERROR)
            missing.authority.append(start_of_authority())
            return missing.to_wire()
        size = _LARGEST if by_tcp else max(query.payload, _PLAIN)
        fitting = _fitting(query, rows[:UDP_ANSWERS] if size == _PLAIN else rows, size)
        if self._truncate and fitting < len(rows):
            return _filled(query, rows[:fitting], dns.flags.TC)
        return _filled(query, rows[:fitting])

    def _rows(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[Row] | None:
        """Return the records of a name; none when it has none of this kind, None when there is no such name."""
        text = name.relativize(_ROOT).to_text().lower()
        asked = asked_by("" if text == "@" else text, srv=kind == dns.rdatatype.SRV)
        if asked is None:
            return None
        if asked.kind in {"addr", "node"}:
            address = self._address(asked)
            return None if address is None else address_rows(address, kind)
        instances = self._instances(asked)
        if not instances:
            return None
        random.shuffle(instances)
        rows = [row for entry in instances for row in self._rows_of(entry, kind)]
        return list({row.data: row for row in rows}.values())  # what several instances share is said once

    def _rows_of(self, entry: Record, kind: dns.rdatatype.RdataType) -> list[Row]:
        if kind == dns.rdatatype.SRV:
            return [service_row(entry, entry["Node"].get("Datacenter") or self._reads.datacenter)]
        return address_rows(entry["Service"].get("Address") or entry["Node"]["Address"], kind)

    def _instances(self, asked: Asked) -> list[Record]:
        """Return the live instances that a name means."""
        unsigned = Request("GET", "/dns", {"dc": [asked.datacenter]}, {}, b"")
        try:
            if asked.kind == "query":
                return list(self._reads.execute(unsigned, asked.name).value["Nodes"])
            found = [e for name in self._named(asked.name) for e in self._reads.seen(unsigned, Reply(), name)]
        except HttpError:  # there is no such query, or no such datacenter
            return []
        return [
            entry
            for entry in found
            if status_of(entry) != "critical"
            and asked.tag in {"", *(tag.lower() for tag in entry["Service"].get("Tags") or ())}
        ]

    def _named(self, name: str) -> list[str]:
        """Return the services that have a name when case does not count, here or elsewhere."""
        known = {service["Service"] for service in self._reads.store.services.values()}
        known |= {service for _, service in self._reads.peers}
        return sorted(one for one in known if one.lower() == name)

    def _address(self, asked: Asked) -> str | None:
        """Return the address of a node, or the one that stands in the name itself."""
        if asked.kind == "node":
            nodes = {name.lower(): node for name, node in self._reads.store.nodes.items()}
            return str(nodes[asked.name]["Address"]) if asked.name in nodes else None
        try:
            return str(ipaddress.ip_address(bytes.fromhex(asked.name)))
        except ValueError:
            return None


def _fitting(query: dns.message.QueryMessage, rows: list[Row], size: int) -> int:
    """Return how many of the rows an answer of ``size`` bytes holds: one at least, which is sent whatever its size."""
    fitting = bisect_right(range(1, len(rows) + 1), size, key=lambda count: len(_filled(query, rows[:count])))
    return max(1, fitting)


def _filled(query: dns.message.QueryMessage, rows: list[Row], flags: dns.flags.Flag = dns.flags.AA) -> bytes:
    """Return an answer of these rows, with the addresses of what they point to."""
    response = _response(query, dns.rcode.NOERROR)
    response.flags |= flags
    for row in rows:
        _add(response, response.answer, query.question[0].name, row.data)
        if row.target is not None:
            _add(response, response.additional, *row.target)
    return response.to_wire(max_size=_LARGEST)


def _response(query: dns.message.QueryMessage, rcode: dns.rcode.Rcode) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    if rcode != dns.rcode.REFUSED:
        response.flags |= dns.flags.AA
    return response


def _add(response: dns.message.Message, section: Any, name: dns.name.Name, data: dns.rdata.Rdata) -> None:
    response.find_rrset(section, name, data.rdclass, data.rdtype, create=True).add(data, ttl=0)
