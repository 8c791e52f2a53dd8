"""Endpoints that are out of rotation for a while: who they are, how they come back, and what is told of it.

Detectors (`svcmesh.policy.outlier`) decide; here what they decide meets members, pickers and events. An endpoint that
refused connections need not wait until its time is over: it is dialled beside the calls, and is back when it answers.
What detectors find out by looking back, they find out on ticks (`svcmesh.engine.ticking`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from threading import RLock
from typing import Protocol

from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import NEVER, Member
from svcmesh.engine.probe import probe
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.ticking import Ticking
from svcmesh.policy.outlier import Ejection, OutlierDetection, OutlierDetector

_UNHEALTHY = Health.UNHEALTHY  # a look at a member of an enumeration takes as long as all else that is asked of one


class Checks(Protocol):
    """What ejections need of the health checks of their cluster."""

    def failing(self, ejecting: OutlierDetection) -> Sequence[Collection[str]]:
        """Return who fails the checks of policies that eject so, by address, for each way to check."""


class Host(Protocol):
    """What ejections need of their cluster."""

    name: str
    runtime: Runtime
    lock: RLock
    members: dict[str, Member]
    timers: bool

    @property
    def health(self) -> Checks:
        """Its health checks."""

    def rebuild(self) -> None:
        """Publish new pickers."""

    def look_at(self, when: float) -> None:
        """Have what is due looked at then."""


class Ejections:
    """The ejections of one cluster, by the settings of those who want them. Threads: any."""

    def __init__(self, cluster: Host) -> None:
        self._cluster = cluster
        self._detectors: dict[OutlierDetection, OutlierDetector] = {}
        self._comparing: tuple[Ticking, ...] = ()
        self._ticking: dict[OutlierDetection, Ticking] = {}

    def detector(self, config: OutlierDetection) -> OutlierDetector:
        """Return the outlier detector for ``config``: views with equal settings share ejections."""
        found = self._detectors.get(config)  # calls ask, and the lock may be held for long: see `Tables`
        if found is not None:
            return found
        with self._cluster.lock:
            found = self._detectors.get(config)
            return self._make(config) if found is None else found

    def join(self, config: OutlierDetection, view: object) -> None:
        """Have what only ticks find out looked for as long as ``view`` lives."""
        with self._cluster.lock:
            self.detector(config)
            if config in self._ticking:
                self._ticking[config].join(view)

    def _make(self, config: OutlierDetection) -> OutlierDetector:
        cluster = self._cluster
        detector = self._detectors[config] = OutlierDetector(config, cluster.runtime.rng, cluster.members)
        if config.ticks:
            self._ticking[config] = Ticking(
                cluster,
                config,
                detector,
                lambda: _population(config, cluster, detector.ejected),
                self.publish,
                self._end,
            )
            self._sort_out()
        return detector

    def _end(self, ticking: Ticking) -> None:
        """Forget a detector: no view wants it, and nobody is out. The cluster's lock is held."""
        if self._ticking.get(ticking.config) is ticking:  # a call may still have had it tick after its end
            del self._ticking[ticking.config], self._detectors[ticking.config]
            self._sort_out()

    def _sort_out(self) -> None:
        """Publish whom calls set going: replaced and never changed, since calls read it without the lock."""
        self._comparing = tuple(ticking for config, ticking in self._ticking.items() if config.compares)

    def called(self, now: float) -> None:
        """Take note that calls are made, for detectors that compare what comes of them. Cost: nothing without such."""
        for ticking in self._comparing:
            ticking.start(now)

    def failed(self, config: OutlierDetection, member: Member, outcome: Outcome, now: float) -> None:
        """Tell the detector for ``config`` of a failure of ``member``; eject it if that was one too many."""
        cluster = self._cluster
        with cluster.lock:
            if cluster.members.get(member.endpoint.address) is not member:
                return  # it left meanwhile
            address = member.endpoint.address
            detector = self.detector(config)
            ejection = detector.failed(
                address,
                member,
                outcome,
                now,
                lambda: _population(config, cluster, {*detector.ejected, address}),
            )
        if ejection is not None:
            self.publish(config, [ejection], [], now)

    def publish(
        self, config: OutlierDetection, ejected: Iterable[Ejection], restored: Iterable[Endpoint], now: float
    ) -> None:
        """Put in force what the detector for ``config`` has decided, and tell of it; no lock is held."""
        cluster = self._cluster
        with cluster.lock:
            out = [(cluster.members[e.address], e) for e in ejected if e.address in cluster.members]
            cluster.look_at(self.next_return())
        ticking = self._ticking.get(config)
        if ticking is not None:
            ticking.start(now)
        cluster.rebuild()
        self.report_restored(restored)
        for member, ejection in out:
            reason, seconds = ejection.reason, ejection.seconds
            cluster.runtime.events.emit(
                "endpoint.ejected", cluster.name, endpoint=member.endpoint, reason=reason, seconds=seconds
            )
            if self._is_refusing(config, member):
                cluster.runtime.worker.submit(self._probe(config, member))

    def passed_check(self, member: Member, configs: Collection[OutlierDetection | None]) -> None:
        """Take note that a health check found ``member`` well, for detectors of ``configs`` that go by that."""
        cluster, address = self._cluster, member.endpoint.address
        now = cluster.runtime.clock.now()
        with cluster.lock:
            detectors = [detector for config, detector in self._detectors.items() if config in configs]
            restored = [detector for detector in detectors if detector.passed_check(address, now)]
        if restored:
            member.renew()  # it answers: a back-off of before would fail calls
            cluster.rebuild()
            self.report_restored([member.endpoint])

    def report_restored(self, endpoints: Iterable[Endpoint]) -> None:
        """Tell that these are back, with no lock held."""
        for endpoint in endpoints:
            self._cluster.runtime.events.emit("endpoint.restored", self._cluster.name, endpoint=endpoint)

    # -- with the cluster's lock held ------------------------------------------------------------------------------

    def forget(self, left: Iterable[Member]) -> list[Endpoint]:
        """Drop the history of those who left; return whom that brings back, since fewer may be ejected of fewer."""
        cluster, restored = self._cluster, set[str]()
        for config, detector in self._detectors.items():
            for member in left:
                detector.forget(member.endpoint.address)
            restored.update(detector.resize(_population(config, cluster, detector.ejected)))
        return [cluster.members[address].endpoint for address in restored if address in cluster.members]

    def due(self, now: float) -> list[Member]:
        """End what is over by now; return whom that brings back."""
        members = self._cluster.members
        return [members[a] for detector in self._detectors.values() for a in detector.due(now) if a in members]

    def next_return(self) -> float:
        """Return the instant at which the next ejection is over; infinite for none."""
        return min((detector.next_return() or NEVER for detector in self._detectors.values()), default=NEVER)

    # -- those that refuse connections -----------------------------------------------------------------------------

    async def _probe(self, config: OutlierDetection, member: Member) -> None:
        """Dial ``member`` until it answers; an ejection caused by connect failures alone is then over."""
        cluster, runtime = self._cluster, self._cluster.runtime
        if not await probe(member.endpoint, runtime.clock, runtime.rng, lambda: self._is_refusing(config, member)):
            return
        member.renew()
        with cluster.lock:
            detector = self._detectors.get(config)
            restored = detector is not None and detector.connected(member.endpoint.address)
        if restored:
            cluster.rebuild()
            self.report_restored([member.endpoint])

    def _is_refusing(self, config: OutlierDetection, member: Member) -> bool:
        """Whether ``member`` is still here and ejected for refusing connections."""
        cluster, address = self._cluster, member.endpoint.address
        with cluster.lock:
            detector = self._detectors.get(config)
            waits = detector is not None and detector.awaits_connection(address)
            return waits and cluster.members.get(address) is member


def _population(config: OutlierDetection, cluster: Host, out: Collection[str]) -> int:
    """Return of how many endpoints a share may be ejected: to Envoy and gRPC all, else those that could be called.

    Those that are ``out`` or about to be are counted, ill or not: one that is ill leaves as many to call as before.
    Policies that check in several ways share these ejections, and none of them may lose its last: the fewest count.
    """
    members = cluster.members
    if not config.read.spares:
        return len(members)
    ill = {address for address, member in members.items() if member.endpoint.health is _UNHEALTHY}
    unwell = [ill.union(failing) for failing in cluster.health.failing(config)] or [ill]
    return len(members) - max(len((each & members.keys()).difference(out)) for each in unwell)
