"""Following the keys beneath a prefix: one list, then a watch from the revision behind it, so that nothing is lost.

- A watch is resumed at the revision behind the last one that it told of: that of the last event, or of a progress
  notice. The revision of a header says less, since old events come in portions.
- A watch that is silent for long, or whose revision was compacted, is followed by a small question: how many keys, and
  which is the newest. If that is what is known, nothing was missed, and the next watch begins at the revision of
  that answer. Else all is listed again. The question needs a leader, so it also tells a quiet etcd from a frozen one,
  or from a member that has lost the others.
- After a watch that broke all is listed again. The store may have been wiped or restored meanwhile: whoever registers
  anew in the same order is given the same revisions, in a cluster of the same number. And a watch from a revision
  beyond the store's is accepted by etcd, and silent for ever.

Source: etcd's `client/v3/watch.go` (what moves `nextRev`); etcd-io/etcd#8980 (a frozen member keeps a watch open).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any

from svcmesh.core.clock import Clock
from svcmesh.discovery.elements import Known
from svcmesh.discovery.etcd.answers import Header, Item, Notice, decode_mark, decode_range, decode_watch
from svcmesh.discovery.etcd.client import Client
from svcmesh.discovery.etcd.errors import PASSING_BY, Broken, EtcdError, Silent, TokenLost, error_told
from svcmesh.discovery.etcd.target import range_end
from svcmesh.discovery.pace import Bucket, spread

_JITTER = 0.1
_RANGE, _WATCH = "/v3/kv/range", "/v3/watch"


@dataclass(frozen=True, slots=True)
class Surface:
    """What following needs besides the prefix. ``wait``: seconds for which a watch may be silent."""

    client: Client
    clock: Clock
    rng: Random
    wait: float


def text64(key: bytes) -> str:
    """Return a key as it stands in a request."""
    return base64.b64encode(key).decode("ascii")


class Prefix:
    """The keys beneath a prefix, as they were when `follow` last yielded.

    Attributes:
        items: by key. revision: the one up to which all is known.
    """

    def __init__(self, surface: Surface, prefix: bytes) -> None:
        self.items: dict[bytes, Item] = {}
        self.revision = 0
        self._known = Known()
        self._surface = surface
        self._client = surface.client
        self._cluster = 0
        self._unbroken = False  # whether the last watch ended by an etcd that is the same as before
        self._in_vain = False  # whether the last watch never began: the next question may find another member
        self._range = {"key": text64(prefix), "range_end": text64(range_end(prefix))}
        self._pace = Bucket(surface.clock, burst=3, seconds=2.0)

    async def follow(self) -> AsyncGenerator[frozenset[bytes] | None, None]:
        """Yield at once and after each change: the keys that changed, or None when any may have.

        Raises:
            EtcdError: nobody answers, or refuses. DiscoveryError: an answer that is none.
        """
        await self.list()
        yield None
        while True:
            await self._pace.take()
            async with aclosing(self._watched()) as changes:
                async for changed in changes:
                    yield changed
            if not self._unbroken:
                await spread(self._surface.clock, self._surface.rng)
            if not self._unbroken or await self._missed():
                await self.list()
                yield None

    async def list(self, *, leader: bool = True) -> None:
        """Read all keys; without ``leader`` as the member knows them that is asked.

        Raises:
            DiscoveryError: as `follow`.
        """
        body = self._range if leader else self._range | {"serializable": True}
        header, self.items = decode_range(await self._client.ask(_RANGE, body, leader=leader), self._known)
        self._cluster, self.revision = header

    async def _watched(self) -> AsyncGenerator[frozenset[bytes], None]:
        """Yield what a watch tells, until it ends for a reason that passes.

        Raises:
            EtcdError: it cannot be had. DiscoveryError: what it says is nothing that etcd says.
        """
        spread = 1.0 + _JITTER * (2.0 * self._surface.rng.random() - 1.0)
        create: dict[str, Any] = {**self._range, "start_revision": str(self.revision + 1), "progress_notify": True}
        began = self._unbroken = False
        try:
            lines = self._client.follow(_WATCH, {"create_request": create}, self._surface.wait * spread)
            async with aclosing(lines):
                async for line in lines:
                    notice = decode_watch(line, asked=_WATCH)
                    if notice.ended is not None or not self._continues(notice.header):
                        self._unbroken = notice.compacted
                        _check_end(notice, began=began)
                        return
                    began, self._in_vain = True, False
                    changed = self._apply(notice)
                    if changed:
                        yield changed
            if not began:
                raise Broken(f"{_WATCH} at {self._client.members[0].shown}: it ended before it began")
        except (*PASSING_BY, TokenLost) as error:
            self._unbroken = began and isinstance(error, Silent)
            if not began and self._in_vain:
                raise
            self._in_vain = not began

    def _continues(self, header: Header) -> bool:
        """Whether an answer is of the store that is known, and not of an earlier state of it."""
        return header.cluster == self._cluster and header.revision >= self.revision

    def _apply(self, notice: Notice) -> frozenset[bytes]:
        for key, revision, item in notice.changes:
            if item is None:
                self.items.pop(key, None)
            else:
                self.items[key] = item
            self.revision = max(self.revision, revision)
        if notice.is_progress:
            self.revision = notice.header.revision
        return frozenset(change.key for change in notice.changes)

    async def _missed(self) -> bool:
        """Ask whether anything changed that no watch told of."""
        newest_first = {"limit": "1", "sort_order": "DESCEND", "sort_target": "MOD", "keys_only": True}
        header, count, newest = decode_mark(await self._client.ask(_RANGE, self._range | newest_first))
        if not self._continues(header) or count != len(self.items) or not self._is_newest(newest):
            return True
        self.revision = header.revision
        return False

    def _is_newest(self, found: tuple[bytes, Item] | None) -> bool:
        """Whether the newest key is one that is known so; its lease tells it from one of another life of the store."""
        if found is None:
            return not self.items
        key, newest = found
        known = self.items.get(key)
        if known is None or (known.revision, known.lease) != (newest.revision, newest.lease):
            return False
        return all(item.revision <= newest.revision for item in self.items.values())


def _check_end(notice: Notice, *, began: bool) -> None:
    """Raise unless the end of a watch is one that passes.

    Raises:
        EtcdError: etcd has refused it.
    """
    if notice.ended is None or notice.compacted or (began and not _denied(notice.ended)):
        return
    raise _refusal(notice.ended)


def _denied(reason: str) -> bool:
    return "permission denied" in reason or "auth" in reason


def _refusal(reason: str) -> EtcdError:
    return error_told(7 if _denied(reason) else 14, reason or "the watch was cancelled", asked=_WATCH)
