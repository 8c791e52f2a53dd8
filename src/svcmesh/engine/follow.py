"""How a cluster learns of its endpoints: at once where they are given, by one watch from its first use where not."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock

from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery, Given, Lag, Lagging, Refreshing
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.memory import Memory
from svcmesh.engine.watch import watch
from svcmesh.engine.watch_state import WatchState

ADVICE = "; with Mesh(cache=DIRECTORY) a process starts with the endpoints that were known last"
"""What helps against a registry that is away when a process starts."""


class Follower:
    """Feeds one cluster from discovery; one watch, however many clients the service has.

    Args:
        source: who is behind ``discovery``, by which a cache on disk knows it; None: nothing of it is kept there.

    Attributes:
        state: what is known of the watch: last success, last error, since when it fails.
    """

    def __init__(self, cluster: Cluster, discovery: Discovery, service: str, source: str | None = None) -> None:
        self.state = WatchState()
        self._cluster = cluster
        self._discovery = discovery
        self._service = service
        self._source = source
        self._lock = Lock()
        self._following = False
        self._watching: Future[None] | None = None
        self._refresh = discovery.refresh if isinstance(discovery, Refreshing) else None
        self._doubted = False
        cluster.follower = self
        cluster.need = self.start
        if source is not None and cluster.runtime.cache is None:
            cluster.advice = ADVICE

    @property
    def lag(self) -> Lag | None:
        """What discovery goes on with although it cannot ask for it, as far as it says so. Threads: any."""
        return self._discovery.lag(self._service) if isinstance(self._discovery, Lagging) else None

    def prime(self) -> None:
        """Put what was given in force, since that starts nothing; a watch waits for the first need."""
        if isinstance(self._discovery, Given):
            self._follow()

    def start(self) -> None:
        """Follow discovery, and check health where a policy says so, unless that is done already or the mesh is closed.

        Cost then: two comparisons.
        """
        self._cluster.health.start()
        if not self._following:
            self._follow()

    def _follow(self) -> None:
        with self._lock:
            first, self._following = not self._following, True
        if not first:
            return
        if isinstance(self._discovery, Given):
            self._cluster.apply(self._discovery.given(self._service))  # listeners hear of it: no lock may be held
            return
        try:
            self._watching = self._cluster.runtime.worker.submit(self._watch())
        except BaseException:
            self._following = False  # the next call tries again
            raise
        if self._cluster.asleep:
            self._cluster.asleep = False
            self._cluster.rebuild()

    def doubt(self) -> None:
        """Have discovery ask again, where it can: an endpoint refuses connections. Threads: any."""
        if self._refresh is None or self._doubted:
            return
        self._doubted = True  # until the worker comes to it: most of a burst of failures costs one comparison
        self._cluster.runtime.worker.call(self._ask_again)

    def _ask_again(self, _: object) -> None:
        self._doubted = False
        if self._refresh is not None:
            self._refresh(self._service)

    def stop(self) -> None:
        """Stop following: nobody wants to know any more. Takes no lock: a finalizer may call it."""
        if self._watching is not None:
            self._watching.cancel()

    def reset_after_fork(self) -> None:
        """In a forked child nothing watches: what was known stays in force, and the next call starts a watch."""
        self._lock = Lock()
        self._doubted = False
        if self._following and not isinstance(self._discovery, Given):
            self._following = False
            self._cluster.asleep = True

    async def _watch(self) -> None:
        runtime = self._cluster.runtime
        await watch(
            self._discovery,
            self._service,
            clock=runtime.clock,
            rng=runtime.rng,
            publish=self._publish,
            emit=runtime.events.emit,
            failed=self._failed,
            state=self.state,
            memory=self._memory(),
            max_stale=runtime.max_stale,
        )

    def _memory(self) -> Memory | None:
        """Return the cache of this service, where the mesh has one that can hold it."""
        runtime, shown = self._cluster.runtime, self._cluster.name  # a URI as a name may hold a password
        if runtime.cache is None or self._source is None:
            return None
        slot = runtime.cache.slot(shown, self._source)
        if slot is None:
            return None
        return Memory(slot, shown, self.state, clock=runtime.clock, emit=runtime.events.emit)

    def _publish(self, snapshot: Snapshot) -> None:
        self._cluster.apply(snapshot, self.state.cached_at)

    def _failed(self, text: str | None) -> None:
        self._cluster.failure = text
        self._cluster.wake()
