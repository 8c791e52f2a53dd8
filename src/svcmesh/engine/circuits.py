"""Circuit breakers at work in a service: who hears of their changes, who talks to a storage, who helps them close.

The state machine (`svcmesh.policy.breaker`) knows neither services nor threads. Here it is joined to the cluster whose
pickers depend on it, and to the worker, which does what may block.
"""

from __future__ import annotations

from weakref import ref

from svcmesh.core.endpoint import PICKED
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Member
from svcmesh.engine.probe import probe
from svcmesh.engine.runtime import Runtime
from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker

SYNC_EVERY = 1.0
"""Seconds between looks at a breaker's shared storage."""


def new_breaker(cluster: Cluster, config: CircuitBreaker, member: Member | None) -> Breaker:
    """Return a breaker for ``member``, or with None for the whole service; its changes rebuild the cluster's views.

    Where it has a storage, `follow` it from the first call on.
    """
    runtime, name = cluster.runtime, cluster.name
    if member is not None and member.endpoint is not PICKED:
        name = f"{name} {member.endpoint.address}"

    def changed(old: str, new: str) -> None:
        cluster.note("breaker.changed", endpoint=None if member is None else member.endpoint, old=old, new=new)
        cluster.rebuild()

    def listener_failed(error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        runtime.events.emit("listener.failed", cluster.name, listener="circuit breaker", error=told)

    if config.storage is None:
        return Breaker(config, name, on_change=changed, on_listener_error=listener_failed)
    worker = runtime.worker  # storages may block: what talks to them runs there, never in a call
    return Breaker(
        config,
        name,
        on_change=changed,
        on_listener_error=listener_failed,
        defer=lambda deed: worker.call(lambda _: deed()),
    )


def follow(runtime: Runtime, breaker: Breaker) -> None:
    """Have ``breaker`` take over what others write to its storage, from now on."""
    weak = ref(breaker)
    runtime.worker.call(lambda _: _sync(runtime, weak))


def _sync(runtime: Runtime, breaker: ref[Breaker]) -> None:
    """Take over what others wrote to a breaker's storage, now and every second, for as long as there is the breaker."""
    found = breaker()
    if found is not None and not runtime.closed:
        now = runtime.clock.now()
        found.sync(now)
        runtime.call_at(now + SYNC_EVERY, lambda: _sync(runtime, breaker))


class Knocker:
    """Dials endpoints whose connect failures keep their breakers open, so that they are used as soon as they are back.

    Threads: any.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._under_way: set[Breaker] = set()

    def knock(self, breaker: Breaker, member: Member) -> None:
        """Have ``member`` dialled in the background until it answers, or ``breaker`` is open no more."""
        if breaker not in self._under_way and member.endpoint is not PICKED:
            self._under_way.add(breaker)
            try:
                self._cluster.runtime.worker.submit(self._until_back(breaker, member))
            except BaseException:
                self._under_way.discard(breaker)
                raise

    async def _until_back(self, breaker: Breaker, member: Member) -> None:
        cluster, runtime = self._cluster, self._cluster.runtime

        def wanted() -> bool:
            return breaker.state == "open" and cluster.members.get(member.endpoint.address) is member

        try:
            if await probe(member.endpoint, runtime.clock, runtime.rng, wanted):
                member.renew()
                breaker.hasten(runtime.clock.now())
        finally:
            self._under_way.discard(breaker)
        cluster.rebuild()
