"""The DNS records of instances in a fake Consul: their addresses, or SRV records that bring the addresses along."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from svcmesh.testing.consul.dns_names import DOMAIN
from svcmesh.testing.consul.reads import status_of
from svcmesh.testing.consul.store import Record

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Row:
    """One record of an answer; ``target`` is the name that it points to, and the address of that where it is known."""

    data: dns.rdata.Rdata
    target: tuple[dns.name.Name, dns.rdata.Rdata] | None = None


def address_rows(address: str, kind: dns.rdatatype.RdataType) -> list[Row]:
    """Return the record of an address if it is of that ``kind``; a host name has an alias, whatever is asked."""
    ip = _ip(address)
    if ip is None:
        return [Row(_data("CNAME", f"{address}."))]
    data = _address_data(ip)
    return [Row(data)] if kind in {data.rdtype, dns.rdatatype.ANY} else []


def service_row(entry: Record, datacenter: str) -> Row:
    """Return the SRV record of an instance of ``datacenter``.

    It points to its address, or to its node where it has none of its own.
    """
    service, node = entry["Service"], entry["Node"]
    own = service.get("Address") or ""
    ip = _ip(own or node["Address"])
    if ip is None:
        target = f"{own or node['Address']}."
    elif own:
        target = f"{ip.packed.hex()}.addr.{datacenter}.{DOMAIN}."
    else:
        target = f"{node['Node']}.node.{datacenter}.{DOMAIN}."
    weights = service.get("Weights") or {}
    weight = weights.get("Passing" if status_of(entry) == "passing" else "Warning", 1)
    data = _data("SRV", f"1 {weight} {service['Port']} {target}")
    return Row(data, None if ip is None else (dns.name.from_text(target), _address_data(ip)))


def start_of_authority() -> dns.rrset.RRset:
    """Return what goes along with an answer that there is nothing: it may be kept for no second, either."""
    return dns.rrset.from_text(f"{DOMAIN}.", 0, "IN", "SOA", f"ns.{DOMAIN}. hostmaster.{DOMAIN}. 1 3600 600 86400 0")


def _address_data(ip: Address) -> dns.rdata.Rdata:
    return _data("A" if ip.version == 4 else "AAAA", str(ip))


def _data(kind: str, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)


def _ip(address: str) -> Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
