"""The state of the world: each request has all names that are wanted, and the version that was accepted last.

A response is accepted by its own version and its nonce; it is refused by the version before it, its nonce and a reason.
A new name is asked for under the last nonce. Listeners and clusters always come all together, so that one that is
missing is deleted; of routes and endpoints a missing one says nothing.

Source: Envoy, "xDS REST and gRPC protocol"; gRPC, proposals A27, A46.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svcmesh.discovery.xds.candidate import Candidates
from svcmesh.discovery.xds.dialect import Dialect, Said, kind_of, no_response, refused
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.resources import Decoded, decode

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as Packed

    from svcmesh._proto import svcmesh_xds_pb2 as wire


@dataclass(slots=True)
class _Conversation:
    """What was said about one kind of resources."""

    version: str = ""
    nonce: str = ""
    named: frozenset[str] = frozenset()


class StateOfTheWorld(Dialect):
    """The dialect of gRPC's own clients. ``node`` says who we are."""

    def __init__(self, node: wire.Node) -> None:
        self._node: wire.Node | None = node
        self._known: dict[str, Candidates] = {}
        self._about = {kind: _Conversation() for kind in Kind}
        self._decoded: dict[Kind, dict[bytes, Decoded]] = {kind: {} for kind in Kind}

    def ask(self, kind: Kind, names: Collection[str]) -> bytes | None:
        """Return a request with all names, if they are others than in the last one."""
        if frozenset(names) == self._about[kind].named:
            return None
        self._about[kind].named = frozenset(names)
        if kind is Kind.ENDPOINTS:
            self._known = {name: self._known.get(name, {}) for name in names}
        return self._request(kind, "")

    def hear(self, content: bytes) -> Said:
        """Return what a DiscoveryResponse says."""
        from google.protobuf.message import DecodeError

        from svcmesh._proto import svcmesh_xds_pb2 as wire

        try:
            message = wire.DiscoveryResponse.FromString(content)
        except DecodeError as error:
            raise no_response(error) from None
        kind = kind_of(message.type_url)
        found = () if kind is None else self._decode(kind, message.resources)
        whole = kind is not None and kind.listed_whole
        return Said(kind, message.nonce, message.version_info, found, whole=whole)

    def answer(self, said: Said) -> bytes | None:
        """Return the request that accepts or refuses a response, with the names that were asked for last."""
        if said.kind is None:
            return None  # to answer would be to subscribe to it
        about = self._about[said.kind]
        about.nonce = said.nonce
        reason = said.refusal()
        if not reason:
            about.version = said.version
        return self._request(said.kind, reason)

    def _decode(self, kind: Kind, listed: Iterable[Packed]) -> tuple[Decoded, ...]:
        """Return what resources say. Most have stood in the response before, too: each is decoded once."""
        before = self._decoded[kind]
        now = {
            one.value: before.get(one.value) or decode(kind, one, self._known)
            for one in listed
            if one.type_url == kind.value
        }
        self._decoded[kind] = now
        return tuple(now[one.value] if one.type_url == kind.value else decode(kind, one, self._known) for one in listed)

    def _request(self, kind: Kind, reason: str) -> bytes:
        from svcmesh._proto import svcmesh_xds_pb2 as wire

        about = self._about[kind]
        request = wire.DiscoveryRequest(
            version_info=about.version,
            node=self._node,
            resource_names=sorted(about.named),
            type_url=kind.value,
            response_nonce=about.nonce,
        )
        self._node = None  # the first request of a stream is enough
        if reason:
            refused(request.error_detail, reason)
        content: bytes = request.SerializeToString()
        return content
