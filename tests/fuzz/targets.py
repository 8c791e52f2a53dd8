"""What is fuzzed: every decoder of discovery, with answers to begin with.

Each target takes any bytes, lets through only errors that nobody has foreseen, and makes of what was decoded whatever
the engine makes of it: a snapshot, its text, and the file that a disk cache keeps, which has to be readable.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.rrset
from google.protobuf.any_pb2 import Any as Packed

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery import cache_file, file
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul import entries as consul
from svcmesh.discovery.consul import errors as consul_errors
from svcmesh.discovery.dns import choices
from svcmesh.discovery.dns.addresses import Hosts, Known
from svcmesh.discovery.dns.lookup import look_up_host, look_up_services
from svcmesh.discovery.dns.records import IN, SRV, Reply, read
from svcmesh.discovery.etcd import answers as etcd
from svcmesh.discovery.etcd import errors as etcd_errors
from svcmesh.discovery.etcd.naming import decode_endpoint
from svcmesh.discovery.kubernetes import answers as kubernetes
from svcmesh.discovery.kubernetes import errors as kubernetes_errors
from svcmesh.discovery.kubernetes.endpoints import Reading, endpoints_of
from svcmesh.discovery.local import record
from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.resources import decode as decode_resource
from svcmesh.policy import service_config
from svcmesh.policy.policy import Policy
from tests.servers.xds import resources as xds
from tests.servers.xds.wire import encode

SUBJECT = cache_file.Subject("orders", "fuzzed")
RECORDED = Path(__file__).parents[1] / "discovery" / "kubernetes" / "recorded"


@dataclass(frozen=True)
class Target:
    """One decoder. ``decode`` takes any bytes; ``seeds`` are some that it understands."""

    decode: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def used(endpoints: Iterable[Endpoint]) -> None:
    """Do with endpoints what is done with any."""
    snapshot = Snapshot(tuple(endpoints))
    repr(snapshot)
    content = cache_file.encode(SUBJECT, 1.0, snapshot.endpoints)
    if len(content) <= cache_file.LARGEST:
        kept = cache_file.decode(content, "cache", SUBJECT).snapshot
        assert [endpoint.address for endpoint in kept.endpoints] == [e.address for e in snapshot.endpoints]


# -- Consul --------------------------------------------------------------------------------------------------------


def consul_answers(data: bytes) -> None:
    """Answers about a service, a prepared query and the catalogue; and errors."""
    readings = (consul.USUAL, consul.Reading(address="wan", ordered=True))
    for decode in (consul.decode_service, consul.decode_query):
        for reading in readings:
            with suppress(DiscoveryError):
                used(decode(data, reading).endpoints)
    with suppress(DiscoveryError):
        consul.decode_services(data)
    with suppress(DiscoveryError):
        consul.decode_nodes(data)
    with suppress(DiscoveryError):
        consul.decode_allowed(data, 2)
    str(consul_errors.error_of(500, data, asked="GET /"))


_CONSUL = [
    {
        "Node": {
            "Node": "n1",
            "Address": "10.0.0.1",
            "Datacenter": "dc1",
            "Meta": {"zone": "a"},
            "TaggedAddresses": {},
        },
        "Service": {
            "ID": "orders-1",
            "Service": "orders",
            "Tags": ["blue"],
            "Address": "10.0.0.2",
            "TaggedAddresses": {"wan": {"Address": "198.51.100.7", "Port": 443}},
            "Meta": {"region": "eu"},
            "Port": 80,
            "Weights": {"Passing": 10, "Warning": 1},
            "Locality": {"Region": "eu", "Zone": "a"},
        },
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "service:1", "Status": "warning"}],
    },
    {
        "Node": {"Address": "::1"},
        "Service": {"SocketPath": "/run/s", "Tags": None},
        "Checks": [{"CheckID": "_node_maintenance", "Status": "critical"}],
    },
]


# -- DNS -----------------------------------------------------------------------------------------------------------


class Answered:
    """A name server that says one thing to one kind of question, and nothing to others."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def ask(self, name: str, kind: int) -> Reply:
        """Return it; dnspython lets no answer to another question through."""
        if self._response.question[0].rdtype != kind:
            return Reply(5.0)
        try:
            return read(self._response, kind)
        except dns.exception.DNSException:
            raise DiscoveryError("it contradicts itself") from None


def dns_messages(data: bytes) -> None:
    """Messages of DNS that dnspython could decode."""
    try:
        response = dns.message.from_wire(data, ignore_trailing=True)
    except dns.exception.DNSException:
        return
    if not isinstance(response, dns.message.QueryMessage) or not response.question:
        return
    if response.question[0].rdclass != IN:
        return  # dnspython takes no answer to a question that was not asked
    server = Answered(response)
    hosts = Hosts(server, (4, 6), Known(16), lambda _: (), 5.0)
    of_services = response.question[0].rdtype == SRV
    look = look_up_services(server, hosts, "orders") if of_services else look_up_host(hosts, "orders", 80)
    with suppress(DiscoveryError):
        used(asyncio.run(look).endpoints)


def grpc_configs(data: bytes) -> None:
    """Lists of service configs, as TXT records have them."""
    with suppress(DiscoveryError, ConfigError):
        config = choices.chosen((choices.PREFIX + data.decode(errors="replace"),), choices.Us("here", 50.0))
        if config is not None:
            Policy.standard().as_sent(service_config.policy_of(config).fields)
            used([Endpoint("10.0.0.1:80")])


_RETRIES = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_CONFIG = {"methodConfig": [{"name": [{}], "timeout": "1.5s", "retryPolicy": _RETRIES}]}


def _message(kind: str, *records: str, extra: Iterable[str] = ()) -> bytes:
    answer = dns.message.make_response(dns.message.make_query("_web._tcp.svc.test", kind))
    for section, lines in ((answer.answer, records), (answer.additional, extra)):
        for line in lines:
            name, ttl, rdclass, rdtype, *text = line.split()
            section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, " ".join(text)))
    return answer.to_wire()


# -- etcd ----------------------------------------------------------------------------------------------------------


def etcd_answers(data: bytes) -> None:
    """All that etcd's gateway answers, and the values that it keeps."""
    with suppress(DiscoveryError):
        for item in etcd.decode_range(data).items.values():
            etcd_values(item.value)
    for decode in (etcd.decode_mark, etcd.decode_lease_of, etcd.decode_granted, etcd.decode_token):
        with suppress(DiscoveryError):
            decode(data)
    for decode_line in (etcd.decode_watch, etcd.decode_kept):
        with suppress(DiscoveryError):
            decode_line(data, asked="watch")
    str(etcd_errors.error_of(500, data, asked="range"))


def etcd_values(data: bytes) -> None:
    """One value."""
    try:
        endpoint = decode_endpoint("one", data)
    except ValueError as error:
        str(error)
    else:
        used([endpoint])


_HEADER = {"cluster_id": "1", "revision": "7"}
_PAIR = {"key": "YXBwcy9vcmRlcnMvMQ==", "mod_revision": "7", "lease": "9", "value": "eyJBZGRyIjoiMTAuMC4wLjE6ODAifQ=="}


# -- Kubernetes ----------------------------------------------------------------------------------------------------


def kubernetes_answers(data: bytes) -> None:
    """Pages of a list, lines of a watch, and errors."""
    for reading in (Reading(port="grpc"), Reading(port="metrics", zone="a")):
        with suppress(DiscoveryError):
            used(endpoints_of(kubernetes.decode_page(data).slices, reading, lambda _: True).endpoints)
        with suppress(DiscoveryError):
            found = kubernetes.decode_event(data, "slices").slice
            used(endpoints_of([] if found is None else [found], reading, lambda _: True).endpoints)
    str(kubernetes_errors.error_of(500, data, asked="slices"))


# -- xDS -----------------------------------------------------------------------------------------------------------


def xds_resources(data: bytes) -> None:
    """Resources of each kind, from a control plane's stream."""
    for kind in Kind:
        found = decode_resource(kind, Packed(type_url=kind.value, value=data))
        assert (found.resource is None) == bool(found.why)
        if isinstance(found.resource, Assignment):
            used(found.resource.endpoints)


# -- files ---------------------------------------------------------------------------------------------------------


def documents(data: bytes, *, name: str) -> None:
    """Files of endpoints."""
    with suppress(DiscoveryError):
        listing = file.decode(data, name)
        for service in ("orders", "other"):
            used(file.select(listing, service).endpoints)


def local_records(data: bytes) -> None:
    """Registrations of the embedded registry."""
    with suppress(ValueError):
        used([record.decode(data).endpoint])


def cache_files(data: bytes) -> None:
    """What a disk cache finds."""
    with suppress(DiscoveryError):
        used(cache_file.decode(data, "cache", SUBJECT).snapshot.endpoints)


_LISTED = (
    b'[{"address": "10.0.0.1:80", "weight": 2, "priority": 1, "health": "degraded", "locality": {"region": "eu", '
    b'"zone": "a", "sub_zone": "b"}, "metadata": {"a": [1, null, true, {"b": 1.5}]}}, "unix:/run/s"]'
)
_YAML = b"orders: &all\n- 10.0.0.1:80\n- address: '[::1]:80'\n  metadata: {a: !!str 1, b: 2026-01-01}\nother: *all\n"
_RECORD = record.encode(
    Announcement("orders", "1", "127.0.0.1:80", tags=("a",), meta={"b": "c"}, locality=Locality("eu")),
    since=1.0,
    draining=False,
    owner="x",
    pid=1,
)


def _json(*values: Any) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)


TARGETS = {
    "consul": Target(consul_answers, _json(_CONSUL, {"Nodes": _CONSUL, "Datacenter": "eu"}, {"orders": ["blue"]})),
    "dns": Target(
        dns_messages,
        (
            _message(
                "SRV",
                "_web._tcp.svc.test. 5 IN SRV 1 2 80 a.svc.test.",
                extra=("a.svc.test. 5 IN A 10.0.0.1", "a.svc.test. 5 IN AAAA ::1"),
            ),
            _message("A", "_web._tcp.svc.test. 5 IN CNAME b.svc.test.", "b.svc.test. 5 IN A 10.0.0.1"),
            _message("SRV", "_web._tcp.svc.test. 5 IN SRV 0 0 0 ."),
        ),
    ),
    "grpc-config": Target(grpc_configs, _json([{"percentage": 60, "serviceConfig": _CONFIG}])),
    "etcd": Target(
        etcd_answers,
        _json(
            {"header": _HEADER, "kvs": [_PAIR], "count": "1"},
            {
                "result": {
                    "header": _HEADER,
                    "events": [{"kv": _PAIR}, {"type": "DELETE", "kv": _PAIR}],
                    "created": True,
                }
            },
            {"result": {"header": _HEADER, "canceled": True, "compact_revision": "5", "cancel_reason": "gone"}},
            {"result": {"header": _HEADER, "ID": "9", "TTL": "3"}},
            {"error": {"code": 5, "message": "etcdserver: requested lease not found"}, "token": "abc"},
        ),
    ),
    "etcd-value": Target(
        etcd_values,
        (
            b"10.0.0.1:80",
            *_json(
                {"Op": 0, "Addr": "10.0.0.1:80", "Metadata": {"weight": 2, "zone": "a", "tags": ["x"], "more": [[1]]}},
                {"Addr": "unix:/run/s", "Metadata": "text"},
            ),
        ),
    ),
    "kubernetes": Target(
        kubernetes_answers,
        ((RECORDED / "list.json").read_bytes(), *(RECORDED / "watch.jsonl").read_bytes().splitlines()),
    ),
    "xds": Target(
        xds_resources,
        (
            xds.assignment("orders", [xds.place(["10.0.0.1:80", "[::1]:81"], "a", weight=3)]),
            xds.listener("orders", xds.table("orders", [xds.route(xds.to_clusters(one=1, two=3))])),
            encode(xds.table("orders", [xds.route(xds.to_cluster("one") | {8: {1: 2}, 9: {1: "5xx", 2: {1: 3}}})])),
            xds.fixed_cluster("orders", ["10.0.0.1:80"]),
            xds.aggregate("all", "one", "two"),
        ),
    ),
    "file-json": Target(partial(documents, name="f.json"), (_LISTED, b'{"orders": ' + _LISTED + b"}")),
    "file-yaml": Target(partial(documents, name="f.yaml"), (_YAML, _LISTED)),
    "local": Target(local_records, (_RECORD,)),
    "cache": Target(
        cache_files, (cache_file.encode(SUBJECT, 1.0, file.select(file.decode(_LISTED, "f.json"), "orders").endpoints),)
    ),
}
