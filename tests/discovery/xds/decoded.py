"""Resources of `tests.servers.xds.resources`, through our decoder."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as Packed

from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.resources import decode


def decoded(kind: Kind, content: bytes):
    """Return what is made of a resource."""
    return decode(kind, Packed(type_url=kind.value, value=content))


def good(kind: Kind, content: bytes):
    """Return a resource that is one."""
    found = decoded(kind, content)
    assert not found.why, found.why
    return found.resource
