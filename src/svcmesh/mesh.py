"""The composition root: a mesh makes services, and owns what they share; nothing below it knows it.

Nothing starts when a mesh is made. The worker thread, the watches and the connections come with the first call that
needs them, so a mesh may be a module-level constant, may be made before a fork, and costs nothing where it is unused.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet, finalize

from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError
from svcmesh.core.here import LivesHere
from svcmesh.core.loop import running_loop
from svcmesh.directory import Directory
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.opened import Source, opened
from svcmesh.discovery.uri import open_discovery
from svcmesh.discovery.uri_parts import guarded
from svcmesh.engine.cache import open_cache
from svcmesh.engine.child_end import at_child_end
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.state import describe
from svcmesh.faults import Faults
from svcmesh.observe.bus import Events
from svcmesh.observe.explain import explain
from svcmesh.policy.policy import Policy, check_policy
from svcmesh.registration import Registration, announce
from svcmesh.service import Service
from svcmesh.settings import ServiceSettings, check_clock_and_rng, read_settings
from svcmesh.transport.health.askers import asker
from svcmesh.transport.signals import leave

if TYPE_CHECKING:
    import httpx

_meshes: WeakSet[Mesh] = WeakSet()


class Mesh(LivesHere):
    """Service discovery, balancing and resilience for every call that this process makes.

    Args:
        discovery: where endpoints come from: a URI such as ``local://`` or ``file:///etc/mesh/{service}.yaml``, a
            `Discovery`, or ``{name: [address, …]}``; default ``local://``, the registry embedded in svcmesh.
        policy: what calls go by unless their service has another; default `Policy.standard()`.
        services: settings by service name: a `Policy`, or a discovery URI and a `Policy`.
        cache: a directory where what a registry said last outlives the process, so that another one can start while
            the registry is down; it is made if need be, and must be private to this user. Default None: nowhere.
        max_stale: seconds for which what a registry said last is used while it cannot be asked, more than 0; calls
            fail after that until it answers. Default None: for ever, as Envoy and gRPC do.
        clock: what every wait and deadline reads; default the system's. rng: what every draw uses.

    Raises:
        ConfigError: a bad URI or address, something that is no policy, a cache that cannot be made or that others may
            enter, a limit that is no number of seconds. Nothing is dialled or read here.

    A mesh can be used as ``with`` or ``async with`` block, or closed, or just dropped. Threads and event loops: any.
    After a fork the child starts afresh: own worker, own connections, own counts.
    """

    def __init__(
        self,
        discovery: Source = None,
        *,
        policy: Policy | None = None,
        services: Mapping[str, ServiceSettings] | None = None,
        cache: str | os.PathLike[str] | None = None,
        max_stale: float | None = None,
        clock: Clock | None = None,
        rng: Rng | None = None,
    ) -> None:
        check_clock_and_rng(clock, rng)
        policy = Policy.standard() if policy is None else check_policy(policy)
        self._runtime = Runtime(clock, rng)
        self._listeners = self._runtime.events.hand_over()  # kept here, so that they may refer to this mesh
        self._runtime.asker = asker
        clock, emit = self._runtime.clock, self._runtime.events.emit
        source = opened(discovery, clock=clock, emit=emit)
        self._discovery = source.discovery
        settings = read_settings(services, clock=clock, emit=emit)
        self._runtime.max_stale = checks.seconds("max_stale", max_stale)
        self._runtime.cache = open_cache(cache, emit, self._runtime.max_stale)
        self._clusters: dict[str, Cluster] = {}
        self._directory = Directory(
            self, self._runtime, self._clusters, discovery=source, policy=policy, settings=settings
        )
        self._lock = RLock()
        self._registrations: list[Registration] = []
        self.faults = Faults(self._directory.in_any_case)
        self._runtime.listeners_changed.append(_rebuilder(self._clusters))
        self._finalizer = finalize(self, _shut, self._runtime, self._clusters)
        self._finalizer.atexit = False  # the interpreter's end has its own order, see `_close_all`
        _meshes.add(self)

    # -- services --------------------------------------------------------------------------------------------------

    def service(self, name_or_uri: str, *, policy: Policy | None = None) -> Service:
        """Return the service of that name: the same object each time. Starts nothing.

        Args:
            name_or_uri: a name that discovery knows, or a URI that names the endpoints itself (``static://h:p,h:p``).
            policy: its policy, instead of the mesh's; only where it is first asked for, or the same again.

        Raises:
            ConfigError: an empty or malformed name or URI, or a second, different policy for it.
        """
        return self._directory.named(name_or_uri, policy)

    def by_host(self, host: str) -> Service:
        """Return the service that the host of a URL names; hosts have no case, so names are found in any.

        For transports: hosts come from anywhere, so a service that only URLs have asked for is forgotten, and no longer
        watched, once nobody refers to it. `service` keeps it.

        Where two names differ only in case, a host that is one of them exactly means that one.

        Raises:
            ConfigError: as `service`.
            NoEndpoints: several names are ``host`` but for their case, and none of them exactly.
        """
        return self._directory.by_host(host)

    # -- registering this process ----------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        *,
        port: int,
        host: str | None = None,
        id: str | None = None,  # noqa: A002 - the registries' word
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        weight: float = 1,
        locality: Locality | None = None,
        ttl: float = 10.0,
        check: Any = None,
        uri: str | None = None,
    ) -> Registration:
        """Announce this process as an instance of ``name``, and keep doing so until it leaves.

        Returns at once; registering and heartbeats go on in the background, also while the registry is down.

        Args:
            name: what others call it by. port: where it listens.
            host: the address that others dial; default: the one that other machines reach, loopback for ``local://``.
            id: unique among the instances; default: made from name, host, port and process.
            tags, meta, weight, locality: what others may choose by.
            ttl: seconds after the last heartbeat at which it counts as gone; more than 0, at most a day.
            check: a health check that the registry runs itself; of ours only Consul can, the others refuse it.
            uri: another registry than the mesh's discovery.

        Raises:
            ConfigError: a field that can never be registered, or a discovery that nothing can be registered with.
        """
        self._runtime.check_open(f"registering {name!r}")
        source: Discovery = self._discovery
        if uri is not None:
            source = open_discovery(uri, clock=self._runtime.clock, emit=self._runtime.events.emit)
        registration = announce(
            self,
            self._runtime,
            source,
            name=name,
            port=port,
            host=host,
            id=id,
            tags=tags,
            meta=meta,
            weight=weight,
            locality=locality,
            ttl=ttl,
            check=check,
        )
        at_child_end(_close_all)
        with self._lock:
            self._registrations = [*(r for r in self._registrations if not r.left), registration]
        return registration

    # -- transports for any service --------------------------------------------------------------------------------

    def http_transport(
        self, *, passthrough: bool = False, inner: httpx.BaseTransport | None = None, **kwargs: Any
    ) -> httpx.BaseTransport:
        """Return a transport for an `httpx.Client` that takes the host of any URL for a service name.

        Args:
            passthrough: unknown names and other ports go to a plain transport (or ``inner``) instead of being refused.
            inner: send through this transport instead of our own connections.
            kwargs: those of `httpx.HTTPTransport`.
        """
        from svcmesh.transport.http.client import mesh_transport

        return mesh_transport(self, inner, kwargs, passthrough=checks.flag("passthrough", passthrough))

    def http_async_transport(
        self, *, passthrough: bool = False, inner: httpx.AsyncBaseTransport | None = None, **kwargs: Any
    ) -> httpx.AsyncBaseTransport:
        """Return a transport for an `httpx.AsyncClient`; as `http_transport`."""
        from svcmesh.transport.http.client import async_mesh_transport

        return async_mesh_transport(self, inner, kwargs, passthrough=checks.flag("passthrough", passthrough))

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def events(self) -> Events:
        """What happens in this mesh, for whoever subscribes."""
        return self._runtime.events

    def state(self) -> dict[str, Any]:
        """Return the state now, as values that JSON can hold: services, endpoints, health, breakers, budgets."""
        self._runtime.settle()
        return {"services": {service.name: describe(service.view.current) for service in self._directory.all()}}

    def explain(self, name: str) -> str:
        """Say in words what a call to ``name`` would meet now, and why.

        Raises:
            ConfigError: the service has not been asked for yet.
        """
        if not isinstance(name, str):
            raise ConfigError(f"a service is explained by its name, not by {name!r}")
        service = self._directory.known(name)
        if service is None:
            known = ", ".join(sorted({each.name for each in self._directory.all()})) or "none"
            raise ConfigError(f"service {guarded(name)!r} has not been used in this mesh; used are: {known}")
        self._runtime.settle()
        return explain(describe(service.view.current))

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave all registries, stop the worker, close all connections. Repeating it is harmless.

        In a listener on the worker's own thread it does not wait: the rest happens in the background.
        """
        if self._runtime.worker.current and self._registrations:
            self._runtime.closed = True
            self._runtime.worker.submit(self._close_later())
            return
        try:
            self._leave()
        finally:  # somebody may press Ctrl-C meanwhile
            self._finalizer()
            self._runtime.join()

    async def aclose(self) -> None:
        """Close without blocking the event loop, which must be asyncio's; elsewhere `close` on a thread."""
        running_loop()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return the mesh."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the mesh; refuse here what could not be closed in the end."""
        running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def _close_later(self) -> None:
        self._begin_to_leave()
        try:
            for registration in self._registrations:
                async with registration:
                    pass  # its end waits until the registry knows
        finally:
            self._finalizer()

    def _leave(self) -> None:
        """Leave all registries, at the same time."""
        registrations, self._registrations = self._registrations, []
        leave(registrations)

    def _begin_to_leave(self) -> None:
        for registration in self._registrations:
            registration.begin_to_leave()

    def _end_with_interpreter(self) -> None:
        """Leave and stop the worker, but fail no call: threads that still make one are about to be frozen."""
        try:
            self._leave()
        finally:
            self._runtime.worker.close()
            self._runtime.join()

    def _reset_after_fork(self) -> None:
        self._lock = RLock()
        self._registrations = []
        self._runtime.reset_after_fork()
        self._directory.reset_after_fork()
        for cluster in self._clusters.values():
            cluster.reset_after_fork()


def _rebuilder(clusters: dict[str, Cluster]) -> Callable[[], None]:
    """Return what rebuilds all views, without holding the mesh itself."""

    def rebuild() -> None:
        for cluster in list(clusters.values()):
            cluster.rebuild()

    return rebuild


def _shut(runtime: Runtime, clusters: dict[str, Cluster]) -> None:
    runtime.close()
    for cluster in list(clusters.values()):
        cluster.close()


def _close_all() -> None:
    """At the interpreter's end: leave registries and join workers while threads still run, all at the same time."""
    with ExitStack() as each:  # calls the others when one fails, or Ctrl-C ends the wait for it
        for mesh in list(_meshes):
            each.callback(mesh._end_with_interpreter)  # noqa: SLF001 - this module's own
            mesh._begin_to_leave()  # noqa: SLF001 - this module's own


def _reset_all() -> None:
    for mesh in list(_meshes):
        mesh._reset_after_fork()  # noqa: SLF001 - this module's own


atexit.register(_close_all)
os.register_at_fork(after_in_child=_reset_all)
