"""xDS as a registry: ``xds:///orders``. What is asked, and how, is in the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.pace import Bucket
from svcmesh.discovery.uri_parts import Surroundings, Uri
from svcmesh.discovery.xds.bootstrap import Bootstrap, bootstrap_for
from svcmesh.discovery.xds.delta import Incremental
from svcmesh.discovery.xds.dialect import Dialect
from svcmesh.discovery.xds.feed import Feed
from svcmesh.discovery.xds.found import Reader
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.question import Question, question_of
from svcmesh.discovery.xds.sotw import StateOfTheWorld


class XdsDiscovery:
    """Discovery by a control plane, over one stream for all services.

    Args:
        bootstrap: where the control plane is, and who we are to it.
        question: what is asked for; by default the listener that is called as the service.
        clock: what waits are measured by. emit: told of what cannot be used.

    Nothing is dialled before the first watch. Threads: all coroutines of one discovery run on one loop at a time; a
    forked child has a stream of its own.
    """

    def __init__(
        self, bootstrap: Bootstrap, question: Question | None = None, *, clock: Clock, emit: Emit = silent
    ) -> None:
        self._bootstrap = bootstrap
        self._question = Question() if question is None else question
        self._clock = clock
        self._emit = emit
        self._feed: Feed | None = None

    @property
    def identity(self) -> str:
        """The control planes, as whom they are asked, and for what."""
        servers = ",".join(server.target for server in self._bootstrap.servers)
        asked = self._question
        return f"xds {servers} {self._bootstrap.node.get('cluster', '')} {asked.kind.name} {self._named(asked.name)}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, as soon as they are known and after each change.

        Raises:
            DiscoveryError: the control plane cannot be asked, ends the stream, or says what cannot be followed.
        """
        name = self._named(self._question.about(service))
        reader = Reader(self._emit, service)
        busy = Bucket(self._clock, burst=20, seconds=0.2)
        feed = self._usable_feed()
        stale = feed.enter(name)
        try:
            while True:
                if feed.error is not None:
                    raise feed.error
                stale.clear()
                snapshot = reader.read(feed.path(name), feed.version)
                if snapshot is not None:
                    yield snapshot
                await stale.wait()
                await busy.take()  # what changes meanwhile is read at once
        finally:
            await feed.leave(name, stale)

    def _named(self, name: str) -> str:
        return self._bootstrap.listener(name) if self._question.kind is Kind.LISTENER else name

    def _usable_feed(self) -> Feed:
        """Return what watches that begin now share: another one after a failure, or in a fork."""
        if self._feed is None or not self._feed.usable:
            asked = self._question
            self._feed = Feed(self._bootstrap.servers, self._dialect, asked.kind, asked.wait, self._clock)
        return self._feed

    def _dialect(self) -> Dialect:
        node = node_of(self._bootstrap.node)
        return Incremental(node) if self._question.delta else StateOfTheWorld(node)


def open_xds(uri: Uri, surroundings: Surroundings) -> XdsDiscovery:
    """Open an ``xds://`` URI; the bootstrap file is read, nothing is dialled.

    Raises:
        ConfigError: an authority, an unknown key in the query, no bootstrap file or one that cannot be used, or
            grpcio or protobuf is not installed.
    """
    question = question_of(uri)
    missing = [name for module, name in (("grpc", "grpcio"), ("google.protobuf", "protobuf")) if not _installed(module)]
    if missing:
        raise ConfigError(f"{uri.text!r} needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    bootstrap = bootstrap_for(question.bootstrap, surroundings.environ)
    node_of(bootstrap.node)  # what is wrong with it shows now
    return XdsDiscovery(bootstrap, question, clock=surroundings.clock, emit=surroundings.emit)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
