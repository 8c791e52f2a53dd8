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
from svcmesh.discovery.kubernetes.endpoints import Made, Reading, endpoints_of
from svcmesh.discovery.kubernetes.kubeconfig import access_of
from svcmesh.discovery.kubernetes.question import Question, question_of
from svcmesh.discovery.kubernetes.slices import Slice
from svcmesh.discovery.kubernetes.watch import Feed, Surface
from svcmesh.discovery.news import News
from svcmesh.discovery.pace import Bucket
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
        self._access = access
        chance = Random() if rng is None else rng
        self._surface = Surface(Client(access), clock, emit, chance, self._question.wait)
        self._seats = Seats()
        self._shared: dict[str, Slices] = {}

    @property
    def identity(self) -> str:
        """The API server, wherever its address came from, and what is asked of it."""
        access, asked = self._access, self._question
        target = f"{asked.namespace or access.namespace}/{asked.name}:{asked.port}"
        return f"kubernetes {access.server.shown} {target} {asked.families} {asked.zone}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, at once and after each change.

        Raises:
            DiscoveryError: the API server cannot be asked or refuses, or the service has no such port.
        """
        target = self._question.about(service)
        scope = Scope(target.namespace or self._access.namespace, target.name)
        reader = Reader(self._surface.emit, service, self._question.reading(target))
        async with self._surface.client.open():
            with self._seats.sit(MOST_SINGLE) as single:
                slices = Slices(self._surface, scope) if single else self._shared_in(scope.namespace)
                async with aclosing(self._following(slices, scope.service, reader)) as snapshots:
                    async for snapshot in snapshots:
                        yield snapshot

    async def _following(self, slices: Slices, name: str, reader: Reader) -> AsyncGenerator[Snapshot, None]:
        busy = Bucket(self._surface.clock, burst=20, seconds=0.2)
        stale = slices.enter(name)
        try:
            while True:
                if slices.error is not None:
                    raise slices.error
                if slices.listed:
                    stale.clear()
                    snapshot = reader.read(slices.feed.of(name), slices.feed.version)
                    if snapshot is not None:
                        yield snapshot
                await stale.wait()
                await busy.take()  # what changes meanwhile is read at once
        finally:
            await slices.leave(name, stale)

    def _shared_in(self, namespace: str) -> Slices:
        """Return what watches in ``namespace`` that begin now share: another one after a failure, or in a fork."""
        shared = self._shared.get(namespace)
        if shared is None or not shared.usable:
            shared = self._shared[namespace] = Slices(self._surface, Scope(namespace))
        return shared


class Slices(Shared):
    """The slices of a scope, kept up to date beside those who watch them.

    They come faster than endpoints can be made of them when a thousand pods are replaced; so the one is not the
    other's next step.

    Attributes:
        feed: the slices. listed: whether they have been listed.
    """

    def __init__(self, surface: Surface, scope: Scope) -> None:
        super().__init__(f"EndpointSlices in namespace {scope.namespace}")
        self._surface = surface
        self._scope = scope
        self.feed = Feed(surface, scope)
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
        self._made: Made = {}

    def read(self, slices: Iterable[Slice], version: str) -> Snapshot | None:
        """Return what slices say; None if that was known.

        Raises:
            DiscoveryError: they have endpoints, and none has the port that is wanted.
        """
        found = endpoints_of(slices, self._reading, made=self._made)
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
