"""Whole answers of registries that list very many endpoints, and what reads them: for `benchmarks.micro.snapshots`.

They are written as the registries write them, with all the fields that svcmesh has no use for: an instance of Consul
with its node and its check, an EndpointSlice with its metadata and a hundred endpoints.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf import json_format

from svcmesh._proto import svcmesh_xds_pb2 as wire
from svcmesh.core.emit import silent
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.consul.address import Agent
from svcmesh.discovery.consul.client import Answer
from svcmesh.discovery.consul.entries import decode_service
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.watch import Reader as ConsulReader
from svcmesh.discovery.elements import Known
from svcmesh.discovery.etcd.answers import decode_range
from svcmesh.discovery.etcd.watch import Reader as EtcdReader
from svcmesh.discovery.file import decode
from svcmesh.discovery.kubernetes.answers import decode_page
from svcmesh.discovery.kubernetes.backend import Reader as KubernetesReader
from svcmesh.discovery.kubernetes.endpoints import USUAL
from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.dialect import Dialect
from svcmesh.discovery.xds.found import Reader as XdsReader
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.path import Part, Path
from svcmesh.discovery.xds.rest import PlainWorld
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from svcmesh.testing.consul.agent import check_record, service_record

CHANGED = 10
PER_SLICE = 100
SERVICE = "orders"

Read = Callable[[bytes], Snapshot | None]


class Form(NamedTuple):
    """A form of answers.

    Attributes:
        answer: returns one with so many endpoints; ten of them are others when the version is.
        reader: returns what makes a snapshot of each of a series of answers.
    """

    answer: Callable[[int, int], bytes]
    reader: Callable[[], Read]


def _host(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def _zone(number: int) -> str:
    return f"eu-west-1{'abc'[number % 3]}"


def _release(number: int, version: int) -> str:
    return f"v{version if number < CHANGED else 0}"


def consul(count: int, version: int) -> bytes:
    """Return an answer of ``/v1/health/service/orders``."""
    return json.dumps([_instance(number, version) for number in range(count)]).encode()


def _instance(number: int, version: int) -> dict[str, Any]:
    node, host = f"node-{number}", _host(number)
    meta = {"version": _release(number, version), "zone": _zone(number)}
    body = {"Name": SERVICE, "ID": f"{SERVICE}-{number}", "Address": host, "Port": 8080, "Tags": ["http"], "Meta": meta}
    service = service_record(body) | {"CreateIndex": 120 + number, "ModifyIndex": 120 + number}
    addresses = dict.fromkeys(("lan", "lan_ipv4", "wan", "wan_ipv4"), host)
    return {
        "Node": {
            "ID": f"c6d1{number:04x}-8d4d-41d4-9e5b-0123456789ab",
            "Node": node,
            "Address": host,
            "Datacenter": "dc1",
            "TaggedAddresses": addresses,
            "Meta": {"consul-network-segment": ""},
            "CreateIndex": 11,
            "ModifyIndex": 13,
        },
        "Service": service,
        "Checks": [
            check_record(node, "serfHealth", "Serf Health Status", "passing", "Agent alive and reachable"),
            check_record(node, f"service:{SERVICE}-{number}", "check", "passing", "HTTP GET: 200 OK", service, "http"),
        ],
    }


def _consul_reader() -> Read:
    reader, agent, question = ConsulReader(silent, SERVICE), Agent("http://127.0.0.1:8500"), Question()
    known = Known()

    def read(body: bytes) -> Snapshot | None:
        return reader.read(Answer(body, {}, agent), decode_service(body, known=known), 1, question)

    return read


def etcd(count: int, version: int) -> bytes:
    """Return an answer of ``/v3/kv/range``."""
    return json.dumps(
        {
            "header": {"cluster_id": "14841639068965178418", "member_id": "10276657743932975437", "revision": "20000"},
            "kvs": [_key(number, version) for number in range(count)],
            "count": str(count),
        }
    ).encode()


def _key(number: int, version: int) -> dict[str, str]:
    metadata = {"version": _release(number, version), "zone": _zone(number)}
    value = json.dumps({"Op": 0, "Addr": f"{_host(number)}:8080", "Metadata": metadata}, separators=(",", ":"))
    revision = 100 + number + (20_000 * version if number < CHANGED else 0)
    return {
        "key": base64.b64encode(f"{SERVICE}/{number:05}".encode()).decode(),
        "create_revision": str(100 + number),
        "mod_revision": str(revision),
        "version": "1",
        "value": base64.b64encode(value.encode()).decode(),
        "lease": str(7587862094948021760 + number),
    }


def _etcd_reader() -> Read:
    reader = EtcdReader(f"{SERVICE}/".encode(), silent, SERVICE)
    known = Known()
    return lambda body: reader.read(decode_range(body, known).items, None, 1)


def kubernetes(count: int, version: int) -> bytes:
    """Return a list of EndpointSlices."""
    slices = [_slice(first, min(count, first + PER_SLICE), version) for first in range(0, count, PER_SLICE)]
    meta = {"resourceVersion": str(31_000 + version)}
    found = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": meta, "items": slices}
    return json.dumps(found).encode()


def _slice(first: int, end: int, version: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{SERVICE}-{first:05}",
            "generateName": f"{SERVICE}-",
            "namespace": "prod",
            "uid": f"0b4e{first:04x}-6d3c-4d8e-a8a5-0123456789ab",
            "resourceVersion": str(30_000 + (version if first < CHANGED else 0)),
            "generation": 3,
            "creationTimestamp": "2026-10-11T08:15:30Z",
            "labels": {"kubernetes.io/service-name": SERVICE},
        },
        "addressType": "IPv4",
        "endpoints": [_pod(number, version) for number in range(first, end)],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def _pod(number: int, version: int) -> dict[str, Any]:
    name = f"{SERVICE}-7d9c6b5f4-{number:05}"
    return {
        "addresses": [_host(number)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "prod", "name": name, "uid": f"5f1e{number:04x}-1f6b-4c1e-9d53-01"},
        "nodeName": f"worker-{number % 200}-{_release(number, version)}",
        "zone": _zone(number),
    }


def _kubernetes_reader() -> Read:
    reader = KubernetesReader(silent, SERVICE, USUAL)
    known = Known()
    return lambda body: reader.read(decode_page(body, known).slices, "1")


def rest(count: int, version: int) -> bytes:
    """Return a DiscoveryResponse in JSON."""
    places: dict[str, list[Any]] = {_zone(number): [] for number in range(3)}
    for number in range(count):
        places[_zone(number)].append(_lb_endpoint(number, version))
    listed = [
        {"locality": {"region": "eu-west-1", "zone": zone}, "lb_endpoints": endpoints, "load_balancing_weight": 1}
        for zone, endpoints in places.items()
    ]
    assignment = {"@type": Kind.ENDPOINTS.value, "cluster_name": SERVICE, "endpoints": listed}
    return json.dumps({"version_info": str(version), "resources": [assignment]}).encode()


def _lb_endpoint(number: int, version: int) -> dict[str, Any]:
    return {
        "endpoint": {"address": {"socket_address": {"address": _host(number), "port_value": 8080}}},
        "health_status": "HEALTHY",
        "load_balancing_weight": 1,
        "metadata": {"filter_metadata": {"envoy.lb": {"version": _release(number, version)}}},
    }


def stream(count: int, version: int) -> bytes:
    """Return the same DiscoveryResponse in protobuf."""
    (said,) = json.loads(rest(count, version))["resources"]
    del said["@type"]
    response = wire.DiscoveryResponse(version_info=str(version), type_url=Kind.ENDPOINTS.value, nonce=str(version))
    packed = response.resources.add()
    packed.type_url = Kind.ENDPOINTS.value
    packed.value = json_format.ParseDict(said, wire.ClusterLoadAssignment()).SerializeToString()
    return bytes(response.SerializeToString())


def _xds_reader(dialect: Dialect, before: bytes = b"") -> Read:
    reader = XdsReader(silent, SERVICE)
    dialect.ask(Kind.ENDPOINTS, [SERVICE])

    def read(body: bytes) -> Snapshot | None:
        (decoded,) = dialect.hear(before + body).found
        assert isinstance(decoded.resource, Assignment), decoded.why
        return reader.read(Path(parts=[Part(decoded.resource, 1.0, 0)]), "")

    return read


def file(count: int, version: int) -> bytes:
    """Return a file that maps one service to its endpoints."""
    listed = [
        {
            "address": f"{_host(number)}:8080",
            "weight": 1,
            "locality": {"region": "eu-west-1", "zone": _zone(number)},
            "metadata": {"version": _release(number, version)},
        }
        for number in range(count)
    ]
    return json.dumps({SERVICE: listed}).encode()


def _file_reader() -> Read:
    known = Known()

    def read(body: bytes) -> Snapshot:
        listing = decode(body, "mesh.json", known)
        assert isinstance(listing, Mapping), "the file maps services to lists"
        found = listing[SERVICE]
        return found if isinstance(found, Snapshot) else Snapshot(found, authoritative=True)

    return read


FORMS = {
    "Consul": Form(consul, _consul_reader),
    "etcd": Form(etcd, _etcd_reader),
    "Kubernetes": Form(kubernetes, _kubernetes_reader),
    "xDS, protobuf": Form(stream, lambda: _xds_reader(StateOfTheWorld(node_of({})))),
    "xDS, JSON": Form(rest, lambda: _xds_reader(PlainWorld({}), f"{Kind.ENDPOINTS.value}\n".encode())),
    "file, JSON": Form(file, _file_reader),
}
