"""The changes of the world: requests add and take away names, responses have what changed and what is gone.

A resource that does not exist is said to be removed, so nobody has to wait for it in vain.

Source: Envoy, "xDS REST and gRPC protocol", incremental xDS.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from svcmesh.discovery.xds.candidate import Candidates
from svcmesh.discovery.xds.dialect import Dialect, Said, kind_of, no_response, refused
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.resources import Decoded, decode

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire


class Incremental(Dialect):
    """The dialect of Envoy's ``DELTA_GRPC``. ``node`` says who we are."""

    def __init__(self, node: wire.Node) -> None:
        self._node: wire.Node | None = node
        self._known: dict[str, Candidates] = {}
        self._named: dict[Kind, frozenset[str]] = {kind: frozenset() for kind in Kind}

    def ask(self, kind: Kind, names: Collection[str]) -> bytes | None:
        """Return a request with the names that came and went since the last one."""
        from svcmesh._proto import svcmesh_xds_pb2 as wire

        before, now = self._named[kind], frozenset(names)
        if before == now:
            return None
        self._named[kind] = now
        if kind is Kind.ENDPOINTS:
            self._known = {name: self._known.get(name, {}) for name in now}
        request = wire.DeltaDiscoveryRequest(
            node=self._node,
            type_url=kind.value,
            resource_names_subscribe=sorted(now - before),
            resource_names_unsubscribe=sorted(before - now),
        )
        self._node = None  # the first request of a stream is enough
        content: bytes = request.SerializeToString()
        return content

    def hear(self, content: bytes) -> Said:
        """Return what a DeltaDiscoveryResponse says."""
        from google.protobuf.message import DecodeError

        from svcmesh._proto import svcmesh_xds_pb2 as wire

        try:
            message = wire.DeltaDiscoveryResponse.FromString(content)
        except DecodeError as error:
            raise no_response(error) from None
        kind = kind_of(message.type_url)
        found = () if kind is None else tuple(_named(kind, one, self._known) for one in message.resources)
        removed = tuple(message.removed_resources)
        return Said(kind, message.nonce, message.system_version_info, found, removed)

    def answer(self, said: Said) -> bytes | None:
        """Return the request that accepts or refuses a response."""
        from svcmesh._proto import svcmesh_xds_pb2 as wire

        if said.kind is None:
            return None
        request = wire.DeltaDiscoveryRequest(type_url=said.kind.value, response_nonce=said.nonce)
        reason = said.refusal()
        if reason:
            refused(request.error_detail, reason)
        content: bytes = request.SerializeToString()
        return content


def _named(kind: Kind, one: wire.Resource, known: Mapping[str, Candidates]) -> Decoded:
    """Return what a resource says, under the name that its envelope has: also where it cannot be decoded."""
    decoded = decode(kind, one.resource, known)
    if decoded.name and one.name and decoded.name != one.name:
        return Decoded(one.name, None, f"within, it is called {decoded.name[:160]!r}")
    return Decoded(one.name or decoded.name, decoded.resource, decoded.why)
