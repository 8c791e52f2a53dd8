"""Kubernetes as a registry: ``k8s://prod/orders:grpc``. What is asked, and how, is in the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from random import Random

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.kubernetes.access import Access, files_of, home_file, in_cluster
from svcmesh.discovery.kubernetes.client import Client, Scope
from svcmesh.discovery.kubernetes.endpoints import Reading, endpoints_of
from svcmesh.discovery.kubernetes.kubeconfig import access_of
from svcmesh.discovery.kubernetes.question import Question, Target, question_of
from svcmesh.discovery.kubernetes.slices import Slice
from svcmesh.discovery.kubernetes.watch import Feed, Surface
from svcmesh.discovery.news import News
from svcmesh.discovery.shared import Seats, Shared, Work
from svcmesh.discovery.uri_parts import Surroundings, Uri

MOST_SINGLE = 20
"""Services that are watched by a connection each. An API server looks at every watch for each change of a slice in the
cluster, whomever it is for, so a mesh of very many services costs less as one watch of the namespace; one of few
services must not be sent the changes of a whole namespace."""


class KubernetesDiscovery:
    """Discovery by EndpointSlices.

    Args:
        access: where the API server is, and who we are to it.
        question: what is asked for; by default the service that is watched, in our own namespace.
        clock: what waits are measured by. emit: told of endpoints that cannot be used.
        rng: what spreads requests.

    Nothing is dialled before the first watch. Threads: all coroutines of one discovery run on one loop at a time; a
    forked child has connections of its own.
    """

    def __init__(
        self,
        access: Access,
        question: Question | None = None,
        *,
        clock: Clock,
        emit: Emit = silent,
        rng: Random | None = None,
    ) -> None:
        self._question = Question() if question is None else question
        self._namespace = access.namespace
        chance = Random() if rng is None else rng
        self._surface = Surface(Client(access), clock, emit, chance, self._question.wait)
        self._seats = Seats()
        self._shared: dict[str, Namespace] = {}

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, at once and after each change.

        Raises:
            DiscoveryError: the API server cannot be asked or refuses, or the service has no such port.
        """
        target = self._question.about(service)
        scope = Scope(target.namespace or self._namespace, target.name)
        reader = Reader(self._surface.emit, service, self._question.reading(target))
        async with self._surface.client.open():
            with self._seats.sit(MOST_SINGLE) as single:
                watching = self._alone(scope, reader) if single else self._together(scope, target, reader)
                async with aclosing(watching) as snapshots:
                    async for snapshot in snapshots:
                        yield snapshot

    async def _alone(self, scope: Scope, reader: Reader) -> AsyncGenerator[Snapshot, None]:
        feed = Feed(self._surface, scope)
        async with aclosing(feed.follow()) as changes:
            async for _ in changes:
                snapshot = reader.read(feed.of(scope.service), feed.version)
                if snapshot is not None:
                    yield snapshot

    async def _together(self, scope: Scope, target: Target, reader: Reader) -> AsyncGenerator[Snapshot, None]:
        shared = self._shared_in(scope.namespace)
        stale = shared.enter(target.name)
        try:
            while True:
                if shared.listed:
                    stale.clear()
                    snapshot = reader.read(shared.feed.of(target.name), shared.feed.version)
                    if snapshot is not None:
                        yield snapshot
                await stale.wait()
                if shared.error is not None:
                    raise shared.error
        finally:
            await shared.leave(target.name, stale)

    def _shared_in(self, namespace: str) -> Namespace:
        """Return what watches in ``namespace`` that begin now share: another one after a failure, or in a fork."""
        shared = self._shared.get(namespace)
        if shared is None or not shared.usable:
            shared = self._shared[namespace] = Namespace(self._surface, namespace)
        return shared


class Namespace(Shared):
    """All slices of a namespace, for watches that share them.

    Attributes:
        feed: the slices. listed: whether they have been listed.
    """

    def __init__(self, surface: Surface, namespace: str) -> None:
        super().__init__(f"the namespace {namespace}")
        self._surface = surface
        self._scope = Scope(namespace)
        self.feed = Feed(surface, self._scope)
        self.listed = False

    def work(self) -> tuple[Work, ...]:
        """Keep the slices up to date; they are listed anew, for some time may have passed since the last watch."""
        self.feed, self.listed = Feed(self._surface, self._scope), False
        return (self._follow,)

    async def _follow(self) -> None:
        async with self._surface.client.open(), aclosing(self.feed.follow()) as changes:
            async for touched in changes:
                self.touch(*(touched if self.listed else self.watched))
                self.listed = True


class Reader:
    """Makes snapshots of the slices of one service."""

    def __init__(self, emit: Emit, service: str, reading: Reading) -> None:
        self._news = News(emit, service, "Kubernetes")
        self._reading = reading

    def read(self, slices: Iterable[Slice], version: str) -> Snapshot | None:
        """Return what slices say; None if that was known.

        Raises:
            DiscoveryError: they have endpoints, and none has the port that is wanted.
        """
        found = endpoints_of(slices, self._reading)
        return self._news.of(found.endpoints, found.left_out, version=version, authoritative=found.sure)


def open_kubernetes(uri: Uri, surroundings: Surroundings) -> KubernetesDiscovery:
    """Open a ``k8s://`` URI; files that say where the API server is are read, nothing is dialled.

    Raises:
        ConfigError: a name that cannot be, an unknown key in the query, no cluster, a kubeconfig that cannot be used.
    """
    question = question_of(uri)
    access = _access(uri, question, surroundings)
    return KubernetesDiscovery(access, question, clock=surroundings.clock, emit=surroundings.emit)


def _access(uri: Uri, question: Question, surroundings: Surroundings) -> Access:
    environ = surroundings.environ
    files = files_of(environ, question.kubeconfig)
    if not files and question.context is None:
        found = in_cluster(environ)
        if found is not None:
            return found
    home = home_file(environ)
    if not files and home is not None:
        files = [home]
    if not files:
        raise ConfigError(
            f"{uri.text!r}: no cluster is known: this process runs in no pod (KUBERNETES_SERVICE_HOST is not set), and "
            "neither kubeconfig= in the URI nor KUBECONFIG nor ~/.kube/config names one"
        )
    return access_of(files, question.context)
