"""The services of one mesh by name: the same object for the same name, made when it is first asked for.

There are two ways to ask. A program that names a service keeps it, for the life of the mesh. The host of a URL may be
anybody's text, so a service that only URLs have asked for is let go, and no longer watched, once nobody holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import RLock
from weakref import WeakValueDictionary, finalize

from svcmesh.core.errors import ConfigError, NoEndpoints
from svcmesh.discovery.base import Given, Named
from svcmesh.discovery.opened import Opened, opened_service
from svcmesh.discovery.uri import is_uri
from svcmesh.discovery.uri_parts import redacted
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.follow import Follower
from svcmesh.engine.runtime import Runtime
from svcmesh.policy.policy import Policy, check_policy
from svcmesh.service import Service

MOST_NAMED = 10
"""How many services an error names where none is spelled like the one that was asked for."""


class Directory:
    """Finds services, and makes those that are asked for the first time. Threads: any.

    Args:
        mesh: what each service keeps alive.
        runtime: what they all share.
        clusters: filled with the state of each service by its name; its owner closes them.
        discovery: where endpoints come from. policy: what calls go by. Both hold for services without settings.
        settings: a discovery of its own or None, and a policy or None, by the name of a service.
    """

    def __init__(
        self,
        mesh: object,
        runtime: Runtime,
        clusters: dict[str, Cluster],
        *,
        discovery: Opened,
        policy: Policy,
        settings: Mapping[str, tuple[Opened | None, Policy | None]],
    ) -> None:
        self._mesh = mesh
        self._runtime = runtime
        self._clusters = clusters
        self._discovery = discovery
        self._policy = policy
        self._settings = settings
        self._lock = RLock()
        self._kept: dict[str, Service] = {}
        self._passing: WeakValueDictionary[str, Service] = WeakValueDictionary()  # those that only URLs asked for

    def named(self, name: str, policy: Policy | None = None) -> Service:
        """Return the service that a program names, and keep it; arguments and errors as of `Mesh.service`."""
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a service is asked for by its name, a non-empty string, not by {name!r}")
        with self._lock:
            service, follower = self.known(name), None
            if service is None:
                service, follower = self._made(name, policy)
            self._kept[name] = service
            if policy is not None and policy != service.view.policy:
                raise ConfigError(
                    f"service {service.name!r} has another policy; for a second one use service.with_policy(policy)"
                )
        if follower is not None:
            follower.prime()  # listeners may hear of it, so no lock is held
        return service

    def by_host(self, host: str) -> Service:
        """Return the service that the host of a URL means, in whatever case; see `Mesh.by_host`."""
        with self._lock:
            names = self._spelled(host)
            if len(names) > 1:
                raise NoEndpoints(f"{_ambiguous(host, names)}, and a URL cannot say which: rename one of them")
            name = names[0]
            service = self.known(name)
            if service is not None:
                return service
            service, follower = self._made(name, None)
            self._passing[name] = service
            finalize(service, _let_go, self._clusters, name, self._clusters[name], follower).atexit = False
        follower.prime()
        return service

    def in_any_case(self, name: str) -> Service:
        """Return the service of that name, or the one that a URL with this host would find, and keep it.

        Raises:
            ConfigError: as `named`; several names are ``name`` but for their case; or none is, and there will never be
                others, since all endpoints were given.
        """
        with self._lock:
            names = self._spelled(name) if isinstance(name, str) else []
            if len(names) > 1:
                raise ConfigError(f"{_ambiguous(name, names)}: spell it as one of them")
            if names == [name] and name:
                self._check_possible(name)
        return self.named(names[0] if names else name)

    def known(self, name: str) -> Service | None:
        """Return the service that was asked for by exactly this name, if there is one."""
        with self._lock:
            return self._kept.get(name) or self._passing.get(name)

    def all(self) -> list[Service]:
        """Return all services that have been asked for, each once, and have not been let go."""
        with self._lock:
            return list({**self._passing, **self._kept}.values())

    def reset_after_fork(self) -> None:
        """In a forked child: a new lock, since a thread that is gone may have held the old one."""
        self._lock = RLock()

    def _check_possible(self, name: str) -> None:
        discovery = self._discovery.discovery
        if is_uri(name) or not isinstance(discovery, Given) or not isinstance(discovery, Named):
            return
        names = {*discovery.names, *self._kept, *self._settings, *self._passing}
        if name not in names:
            raise ConfigError(f"no service is called {name!r}, and none can come; {_nearest(name, names)}")

    def _spelled(self, name: str) -> list[str]:
        """Return the known names that are ``name`` but for their case; ``name`` alone where it is known, or none is."""
        listed: Iterable[str] = getattr(self._discovery.discovery, "names", ())
        for known in ({*self._kept, *self._settings, *listed}, {*self._passing}):
            alike = [name] if name in known else sorted(each for each in known if each.lower() == name.lower())
            if alike:
                return alike
        return [name]

    def _made(self, name: str, policy: Policy | None) -> tuple[Service, Follower]:
        self._runtime.check_open(f"service {redacted(name)!r}")
        own, configured = self._settings.get(name, (None, None))
        if policy is not None and configured is not None and policy != configured:
            raise ConfigError(f"service {name!r} has another policy in Mesh(services=…); give it in one place")
        clock, emit = self._runtime.clock, self._runtime.events.emit
        if is_uri(name):
            source, shown = opened_service(name, clock=clock, emit=emit), redacted(name)
        else:
            source, shown = own or self._discovery, name
        cluster = Cluster(shown, self._runtime)
        said = policy or configured
        service = Service(self._mesh, cluster, check_policy(said or self._policy), yields=said is None)
        self._clusters[name] = cluster
        return service, Follower(cluster, source.discovery, name, source.identity)


def _ambiguous(name: str, names: list[str]) -> str:
    return f"{name!r} may be service {', '.join(map(repr, names))}, which differ only in case"


def _nearest(name: str, names: set[str]) -> str:
    from difflib import get_close_matches  # for this error only

    near = get_close_matches(name, names)
    if near:
        return f"nearest are: {', '.join(map(repr, near))}"
    return f"given are: {', '.join(map(repr, sorted(names)[:MOST_NAMED])) or 'none'}"


def _let_go(clusters: dict[str, Cluster], name: str, cluster: Cluster, follower: Follower) -> None:
    """Stop following and close a service that nobody holds any more; takes no lock, since a finalizer calls it."""
    follower.stop()
    if clusters.get(name) is cluster:  # else somebody has just asked for that name again
        del clusters[name]
    cluster.close()
