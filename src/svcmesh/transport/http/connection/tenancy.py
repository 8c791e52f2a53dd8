"""How long connections to an endpoint are kept: as long as it is in discovery, and as long as the transport lives."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from svcmesh.engine.member import Member
from svcmesh.transport.http.connection.pool import Pool

_ended: deque[tuple[set[Member], object]] = deque()
"""Stays of pools that were dropped, to be ended by the next one that begins: a finalizer may not wait for the lock of a
member itself, since it may run in a thread that holds it."""


class Tenancy:
    """A pool's stay with the members of a service.

    A member that leaves discovery closes what is kept for it. It refers to the pool weakly, so that a transport which
    is dropped without being closed takes its connections along.
    """

    def __init__(self, pool: Pool[Member, Any]) -> None:
        self._pool = pool
        self._key = object()
        self._members: set[Member] = set()
        self._over = False
        self._finalizer = weakref.finalize(self, _ended.append, (self._members, self._key))
        self._finalizer.atexit = False  # nobody needs it when the interpreter ends

    def begin(self, member: Member) -> None:
        """Keep connections to ``member`` from now on.

        Not where it has left, or this stay has ended, while a call was on its way to it: the connection ends with it.
        """
        while _ended:
            _leave(*_ended.popleft())
        if self._over:
            return
        self._pool.join(member)
        self._members.add(member)
        lease = member.attachment(self._key, lambda: Lease(self._pool, self._members, member))
        if member.attached(self._key) is not lease:
            lease.close()
        if self._over:  # meanwhile, in another thread
            self.end()

    def end(self) -> None:
        """Close everything; connections in use are closed when they come back, and no others are kept any more."""
        self._over = True
        _leave(self._members, self._key)
        self._pool.close()

    def forget(self) -> None:
        """End it in a forked child, where a thread that no longer exists may hold any of the locks."""
        self._finalizer.detach()


class Lease:
    """What a member keeps: the way to tell a pool that it has left."""

    def __init__(self, pool: Pool[Member, Any], members: set[Member], member: Member) -> None:
        self._pool = weakref.ref(pool)
        self._members = members
        self._member = member

    def close(self) -> None:
        """Drain the pool, if it still exists."""
        self._members.discard(self._member)
        pool = self._pool()
        if pool is not None:
            pool.drain(self._member)


def _leave(members: set[Member], key: object) -> None:
    while members:
        members.pop().detach(key)
