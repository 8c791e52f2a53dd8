"""How a cluster learns of its endpoints: at once where they are given, by one watch from its first use where not."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock

from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery, Given
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.watch import WatchState, watch


class Follower:
    """Feeds one cluster from discovery; one watch, however many clients the service has.

    Attributes:
        state: what is known of the watch: last success, last error, since when it fails.
    """

    def __init__(self, cluster: Cluster, discovery: Discovery, service: str) -> None:
        self.state = WatchState()
        self._cluster = cluster
        self._discovery = discovery
        self._service = service
        self._lock = Lock()
        self._watching: Future[None] | None = None
        cluster.follower = self
        if isinstance(discovery, Given):
            cluster.apply(discovery.given(service))
        else:
            cluster.need = self.start

    def start(self) -> None:
        """Start the watch, unless it runs already or the mesh is closed. Cost when it runs: one comparison."""
        if self._watching is not None:
            return
        with self._lock:
            if self._watching is None:
                self._watching = self._cluster.runtime.worker.submit(self._watch())

    def reset_after_fork(self) -> None:
        """In a forked child nothing watches; the next call that finds no endpoints, or asks for them, starts it."""
        self._lock = Lock()
        started, self._watching = self._watching is not None, None
        if started:
            self._cluster.ready = False

    async def _watch(self) -> None:
        runtime = self._cluster.runtime
        await watch(
            self._discovery,
            self._service,
            clock=runtime.clock,
            rng=runtime.rng,
            publish=self._put,
            emit=runtime.events.emit,
            failed=self._failed,
            state=self.state,
        )

    def _put(self, snapshot: Snapshot) -> None:
        self._cluster.failure = None
        self._cluster.apply(snapshot)

    def _failed(self, text: str) -> None:
        self._cluster.failure = text
        self._cluster.wake()
