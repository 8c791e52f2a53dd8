"""Resources as plain values, as they stand in JSON and YAML: what files and the REST form of xDS have.

They are made messages first, so that there is one reading of each resource, whatever it came as. A resource within a
resource (the `Any` of a listener, of an aggregate) says its type beside its fields, and there only types are known that
lead to endpoints.

Source: Envoy, "xDS configuration API overview"; protobuf, "ProtoJSON format".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svcmesh.discovery.documents import STRICT_JSON, parse_document
from svcmesh.discovery.elements import Known, read_elements
from svcmesh.discovery.xds.candidate import Candidate, Unusual, usual_candidate
from svcmesh.discovery.xds.kinds import AGGREGATE, HTTP_MANAGER, WRAPPED, Kind
from svcmesh.discovery.xds.resources import Decoded, decode, decode_assignment

if TYPE_CHECKING:
    from google.protobuf.message import Message

_TYPE = "@type"
_ENDPOINTS = ("resources", "endpoints", "lb_endpoints")
_WITHIN: Mapping[Kind, tuple[tuple[str, str], tuple[str, str]]] = {
    Kind.LISTENER: (("api_listener", "apiListener"), ("api_listener", "apiListener")),
    Kind.CLUSTER: (("cluster_type", "clusterType"), ("typed_config", "typedConfig")),
}
"""Where a resource of a kind holds another one: the field, and the field in it, in both spellings that JSON allows."""


def decode_plain(kind: Kind, found: Any) -> Decoded:
    """Return what a plain value says as a resource of ``kind``, also in its envelope. Never raises."""
    from google.protobuf.any_pb2 import Any as Packed

    from svcmesh._proto import svcmesh_xds_pb2 as wire

    if isinstance(found, dict) and found.get(_TYPE) == WRAPPED:
        found = found.get("resource")
    if not isinstance(found, dict):
        return Decoded("", None, f"it is no object but {type(found).__name__}")
    given = found.get(_TYPE)
    if given != kind.value:
        return Decoded("", None, f"its {_TYPE} is {str(given)[:160]!r} instead of {kind.value}")
    found, listed = _apart(kind, found)
    try:
        message = _message(kind, found)
    except Exception as error:  # noqa: BLE001 - protobuf lets through whatever its parts raise, even SystemError
        return Decoded("", None, " ".join(str(error).split())[:300] or type(error).__name__)
    if isinstance(message, wire.ClusterLoadAssignment):
        return decode_assignment(message, listed)
    return decode(kind, Packed(type_url=kind.value, value=message.SerializeToString()))


def parse_plain(kind: Kind, text: str, where: str, known: Known | None = None) -> Any:
    """Return a DiscoveryResponse in JSON; its endpoints are candidates already, if all of them are as usual.

    Args:
        kind: of its resources. text: the JSON. where: what errors call it.
        known: endpoints from before, to be used again; brought up to date.

    Raises:
        DiscoveryError: it is no JSON.
    """
    if kind is Kind.ENDPOINTS:
        try:
            document = read_elements(text, usual_candidate, _ENDPOINTS, known, STRICT_JSON)
            if _is_usual(document):
                return document
        except (Unusual, ValueError, RecursionError):
            pass
    return parse_document(text, where, is_json=True)


def _is_usual(document: Any) -> bool:
    """Whether no endpoint stands in another place or spelling."""
    listed = document.get("resources") if isinstance(document, dict) else None
    groups = [
        group
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("endpoints"), list)
        for group in one["endpoints"]
    ]
    return all(
        isinstance(group, dict) and "lbEndpoints" not in group and isinstance(group.get("lb_endpoints", []), list)
        for group in groups
    )


def _apart(kind: Kind, found: dict[str, Any]) -> tuple[dict[str, Any], list[list[Candidate]]]:
    """Return a resource without the candidates in it, and these, by group; [] if it has none."""
    groups = found.get("endpoints") if kind is Kind.ENDPOINTS else None
    if not isinstance(groups, list):
        return found, []
    listed = [group.get("lb_endpoints", []) if isinstance(group, dict) else [] for group in groups]
    if not any(isinstance(one, list) and one and isinstance(one[0], Candidate) for one in listed):
        return found, []
    left = [{key: value for key, value in group.items() if key != "lb_endpoints"} for group in groups]
    return found | {"endpoints": left}, listed


def _message(kind: Kind, found: Mapping[str, Any]) -> Message:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    fields, inner = _without_inner(kind, found)
    if kind is Kind.LISTENER:
        listener = wire.Listener()
        _fill(listener, fields)
        if inner.get(_TYPE) == HTTP_MANAGER:
            held = listener.api_listener.api_listener
            held.type_url = HTTP_MANAGER
            held.value = _fill(wire.HttpConnectionManager(), inner)
        return listener
    if kind is Kind.CLUSTER:
        cluster = wire.Cluster()
        _fill(cluster, fields)
        if inner.get(_TYPE) == AGGREGATE:
            config = cluster.cluster_type.typed_config
            config.type_url = AGGREGATE
            config.value = _fill(wire.AggregateCluster(), inner)
        return cluster
    message = wire.RouteConfiguration() if kind is Kind.ROUTES else wire.ClusterLoadAssignment()
    _fill(message, fields)
    return message


def _without_inner(kind: Kind, found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a resource without the one that it holds, and that one; {} if it holds none."""
    fields = dict(found)
    if kind not in _WITHIN:
        return fields, {}
    outer, within = _WITHIN[kind]
    for key in outer:
        around = fields.get(key)
        if isinstance(around, dict):
            fields[key] = around = dict(around)
            for name in within:
                held = around.pop(name, None)
                if isinstance(held, dict):
                    return fields, held
    return fields, {}


def _fill(message: Message, fields: Mapping[str, Any]) -> bytes:
    """Fill a message with the fields that are read, skip others, and return its bytes."""
    from google.protobuf import json_format

    named = {key: value for key, value in fields.items() if key != _TYPE}
    json_format.ParseDict(named, message, ignore_unknown_fields=True)
    content: bytes = message.SerializeToString()
    return content
