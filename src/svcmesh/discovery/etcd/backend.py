"""etcd as a registry: ``etcd://127.0.0.1:2379/services``. What is asked, and how, is in the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from random import Random

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.etcd.address import Access, access
from svcmesh.discovery.etcd.client import Client
from svcmesh.discovery.etcd.common import Common
from svcmesh.discovery.etcd.errors import Broken, Denied
from svcmesh.discovery.etcd.naming import encode_endpoint
from svcmesh.discovery.etcd.prefix import Surface
from svcmesh.discovery.etcd.registration import Registrations
from svcmesh.discovery.etcd.target import KEYS, Target, registry_of, service_of
from svcmesh.discovery.etcd.watch import remembered, watch_service
from svcmesh.discovery.registering import Registering
from svcmesh.discovery.shared import Seats
from svcmesh.discovery.uri_parts import Surroundings, Uri, query_of

MOST_HELD = 50
"""Services that one registry watches by a connection each; the rest share one, where keys have a prefix in common."""


class EtcdRegistry(Registering):
    """Discovery and registration with etcd.

    Args:
        access: members, credentials and TLS.
        target: which keys are meant; by default ``<name of the service>/…``.
        clock: what waits are measured by. emit: told of values that cannot be used.
        rng: what spreads checks of silent watches.

    Nothing is dialled before the first watch or registration. Threads: all coroutines of one registry run on one loop
    at a time; a forked child has connections of its own.
    """

    def __init__(
        self,
        access: Access,
        target: Target | None = None,
        *,
        clock: Clock,
        emit: Emit = silent,
        rng: Random | None = None,
    ) -> None:
        self._target = Target() if target is None else target
        self._client = Client(access, clock)
        self._emit = emit
        self._surface = Surface(self._client, clock, Random() if rng is None else rng, self._target.wait)
        super().__init__(Registrations(self._client, self._target))
        self._common = Common(self._surface, self._target.root, emit)
        self._seats = Seats()
        self._apart = False  # whether each service is watched by itself, however many there are
        self._known: set[bytes] = set()  # prefixes of services that callers have endpoints of

    @property
    def identity(self) -> str:
        """The members, wherever their address came from, and where the keys are."""
        members = ",".join(sorted(member.shown for member in self._client.access.members))
        return f"etcd {members} {self._target.template}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, at once and after each change.

        Raises:
            DiscoveryError: etcd cannot be asked, or its answer is none.
        """
        prefix = self._target.prefix(service)
        async with self._client.open():
            with self._seats.sit(MOST_HELD) as held:
                try:
                    async with aclosing(self._watching(prefix, service, held=held)) as snapshots:
                        async for snapshot in snapshots:
                            if snapshot.endpoints:  # names may be anybody's, hosts of URLs: of those no trace is left
                                self._known.add(prefix)
                            yield snapshot
                except Broken:  # no leader: whoever has no endpoints at all is better off with old ones
                    old = None if prefix in self._known else await remembered(self._surface, prefix, service)
                    if old is not None:
                        self._known.add(prefix)
                        yield old
                    raise
                except Denied:
                    self._apart = self._apart or not held  # the user may read services, and not all of them at once
                    raise

    def _watching(self, prefix: bytes, service: str, *, held: bool) -> AsyncGenerator[Snapshot, None]:
        if held or self._apart or not self._target.root:
            return watch_service(self._surface, prefix, self._emit, service)
        return self._common.watch(prefix, service)

    def check_announcement(self, announcement: Announcement) -> None:
        """Refuse what can never stand in etcd.

        Raises:
            ConfigError: naming the field.
        """
        encode_endpoint(announcement)
        try:
            self._target.prefix(announcement.service)
            announcement.id.encode()
        except (DiscoveryError, UnicodeEncodeError) as error:
            raise ConfigError(f"name or id: {error}") from None


def open_etcd(uri: Uri, surroundings: Surroundings) -> EtcdRegistry:
    """Open an ``etcd://`` or ``etcd+https://`` URI as a registry of names; nothing is dialled.

    Raises:
        ConfigError: a malformed address, an unknown key in the query, an ``ETCDCTL_…`` variable that cannot be.
    """
    return _opened(uri, registry_of(uri), surroundings)


def open_etcd_service(uri: Uri, surroundings: Surroundings) -> EtcdRegistry:
    """Open a URI whose path is the key of one service, whatever the name it is watched by; as `open_etcd`."""
    return _opened(uri, service_of(uri), surroundings)


def _opened(uri: Uri, target: Target, surroundings: Surroundings) -> EtcdRegistry:
    password_file = query_of(uri, KEYS).get("password-file", [None])[0]
    found = access(uri, surroundings.environ, password_file=password_file)
    return EtcdRegistry(found, target, clock=surroundings.clock, emit=surroundings.emit)
