"""From keys beneath a prefix to snapshots of a service: each value is decoded once, when it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing

from svcmesh.core.emit import Emit, silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.etcd.answers import Item
from svcmesh.discovery.etcd.naming import decode_endpoint
from svcmesh.discovery.etcd.prefix import Prefix, Surface
from svcmesh.discovery.news import News

_TOLD = 160  # characters of what an event says of a value


class Reader:
    """Makes snapshots of the keys of one service.

    Args:
        prefix: what all of its keys begin with. emit: told of values that are no endpoints. service: its name.
    """

    def __init__(self, prefix: bytes, emit: Emit, service: str) -> None:
        self._prefix = prefix
        self._news = News(emit, service, "etcd")
        self._known: dict[bytes, Item] = {}
        self._good: dict[bytes, Endpoint] = {}
        self._bad: dict[bytes, str] = {}

    def read(self, items: Mapping[bytes, Item], changed: Iterable[bytes] | None, revision: int) -> Snapshot | None:
        """Return what the keys say now; None if that was known.

        Args:
            items: all keys. changed: those that may be others than before; None: all.
            revision: the snapshot's version.

        Raises:
            DiscoveryError: there are values, and not one of them is an endpoint.
        """
        if changed is None:
            changed = [*items, *(key for key in self._known if key not in items)]
        for key in changed:
            item, before = items.get(key), self._known.get(key)
            if item is not before and item != before:
                self._decode(key, item)
        left_out = tuple(self._bad[key] for key in sorted(self._bad))
        if left_out and not self._good:
            raise DiscoveryError(f"none of {len(left_out)} values in etcd is an endpoint; {left_out[0]}")
        return self._news.of(_unique(self._good), left_out, version=revision, authoritative=bool(self._good))

    def _decode(self, key: bytes, item: Item | None) -> None:
        if key in self._known:
            self._good.pop(key, None)
            self._bad.pop(key, None)
        if item is None:
            del self._known[key]
            return
        self._known[key] = item
        try:
            name = key.removeprefix(self._prefix).decode("utf-8", "replace")
            self._good[key] = decode_endpoint(name, item.value)
        except ValueError as error:  # ConfigError of an address is one, and so is what is no UTF-8 or no JSON
            self._bad[key] = f"key {key.decode('utf-8', errors='replace')[:_TOLD]!r}: {str(error)[:_TOLD]}"


def _unique(found: Mapping[bytes, Endpoint]) -> tuple[Endpoint, ...]:
    """Return endpoints by address, each address once: of several keys the one with most weight, then the first."""
    best = {endpoint.address: endpoint for endpoint in found.values()}
    if len(best) < len(found):
        ranked = sorted(found.items(), key=lambda pair: (-pair[1].weight, pair[0]), reverse=True)
        best = {endpoint.address: endpoint for _, endpoint in ranked}
    return tuple([best[address] for address in sorted(best)])


async def watch_service(surface: Surface, prefix: bytes, emit: Emit, service: str) -> AsyncGenerator[Snapshot, None]:
    """Yield the endpoints beneath ``prefix``, at once and after each change.

    Args:
        surface: whom to ask. prefix: what the service's keys begin with.
        emit: told of values that cannot be used. service: its name.

    Raises:
        DiscoveryError: nobody answers, or nothing that is there is an endpoint.
    """
    keys, reader = Prefix(surface, prefix), Reader(prefix, emit, service)
    async with aclosing(keys.follow()) as changes:
        async for changed in changes:
            snapshot = reader.read(keys.items, changed, keys.revision)
            if snapshot is not None:
                yield snapshot


async def remembered(surface: Surface, prefix: bytes, service: str) -> Snapshot | None:
    """Return what a member remembers beneath ``prefix``, also without a leader; None if it has nothing of use."""
    keys, reader = Prefix(surface, prefix), Reader(prefix, silent, service)
    try:
        await keys.list(leader=False)
        snapshot = reader.read(keys.items, None, keys.revision)
    except DiscoveryError:
        return None
    return snapshot if snapshot is not None and snapshot.endpoints else None
