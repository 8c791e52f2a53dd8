"""Being registered with etcd: a key that lives as long as its lease, and a lease that lives while it is kept alive.

A lease that ran out while etcd or we could not be reached is told of by a keep-alive that answers with no time left,
and a key may have been deleted by hand, or be missing in a store that was restored. So a heartbeat keeps the lease
alive and looks at the key, and whatever is missing is granted and put again.

Leaving revokes the lease, which takes away what is bound to it and nothing else: a process that was restarted under
the same id, and has put its own lease there, keeps its key.
"""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from dataclasses import dataclass

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.etcd.answers import decode_granted, decode_kept, decode_lease_of
from svcmesh.discovery.etcd.client import Client
from svcmesh.discovery.etcd.errors import Unknown
from svcmesh.discovery.etcd.naming import encode_endpoint
from svcmesh.discovery.etcd.prefix import text64
from svcmesh.discovery.etcd.target import Target


@dataclass(slots=True)
class _Held:
    """One registration. ``lease``: its number, 0 for none."""

    lease: int = 0
    draining: bool = False


class Registrations:
    """Registers, keeps alive, drains and takes back. Threads: the loop it is used on."""

    def __init__(self, client: Client, target: Target) -> None:
        self._client = client
        self._target = target
        self._held: dict[tuple[str, str], _Held] = {}

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again with what is said now.

        Raises:
            DiscoveryError: etcd does not take it.
        """
        held = self._of(announcement)
        held.draining = False
        async with self._client.open():
            await self._put(announcement, held)

    async def heartbeat(self, announcement: Announcement) -> bool:
        """Keep the lease alive, and put back what is missing.

        Returns:
            Whether something was missing.

        Raises:
            DiscoveryError: etcd cannot be told, or another process has registered under the same id.
        """
        held = self._of(announcement)
        async with self._client.open():
            if held.lease and not await self._kept(held.lease):
                held.lease = 0
            if held.draining:
                return False
            holder = await self._holder(announcement) if held.lease else None
            if holder is None:
                await self._put(announcement, held)
            elif holder != held.lease:
                raise DiscoveryError(
                    f"{announcement.id!r} of {announcement.service!r} was registered again with etcd by somebody else: "
                    "give each process an id of its own"
                )
        return holder is None

    async def drain(self, announcement: Announcement) -> None:
        """Take the key away, and keep the lease: etcd's format has no word for leaving.

        Raises:
            DiscoveryError: etcd cannot be told.
        """
        held = self._of(announcement)
        held.draining = True
        key = self._key(announcement)
        ours = {"key": key, "target": "LEASE", "result": "EQUAL", "lease": str(held.lease)}
        if held.lease:
            async with self._client.open():
                delete = {"compare": [ours], "success": [{"request_delete_range": {"key": key}}]}
                await self._client.ask("/v3/kv/txn", delete)

    async def deregister(self, announcement: Announcement) -> None:
        """Revoke the lease; harmless when it is gone, or never was.

        Raises:
            DiscoveryError: etcd cannot be told.
        """
        held = self._of(announcement)
        if held.lease:
            async with self._client.open():
                with suppress(Unknown):  # it has run out
                    await self._client.ask("/v3/lease/revoke", {"ID": str(held.lease)})
        self._held.pop(_name(announcement), None)

    async def _put(self, announcement: Announcement, held: _Held) -> None:
        value = base64.b64encode(encode_endpoint(announcement)).decode("ascii")
        body = {"key": self._key(announcement), "value": value}
        if held.lease:
            try:
                await self._client.ask("/v3/kv/put", {**body, "lease": str(held.lease)})
            except Unknown:
                held.lease = 0  # it has run out
            else:
                return
        held.lease = await self._granted(announcement.ttl)
        await self._client.ask("/v3/kv/put", {**body, "lease": str(held.lease)})

    async def _granted(self, ttl: float) -> int:
        """Return a new lease; etcd may let it live longer than was asked for."""
        answer = await self._client.ask("/v3/lease/grant", {"TTL": str(max(1, math.ceil(ttl)))})
        return decode_granted(answer).lease

    async def _kept(self, lease: int) -> bool:
        path = "/v3/lease/keepalive"
        return decode_kept(await self._client.ask(path, {"ID": str(lease)}), asked=path).ttl > 0

    async def _holder(self, announcement: Announcement) -> int | None:
        """Return the lease of our key, None where the key is not there."""
        body = {"key": self._key(announcement), "keys_only": True}
        return decode_lease_of(await self._client.ask("/v3/kv/range", body))

    def _key(self, announcement: Announcement) -> str:
        try:
            return text64(self._target.prefix(announcement.service) + announcement.id.encode())
        except UnicodeEncodeError:
            raise DiscoveryError(f"etcd has no key for the id {announcement.id!r}: it is no Unicode") from None

    def _of(self, announcement: Announcement) -> _Held:
        return self._held.setdefault(_name(announcement), _Held())


def _name(announcement: Announcement) -> tuple[str, str]:
    return announcement.service, announcement.id
