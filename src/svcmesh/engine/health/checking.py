"""One health check at work: every endpoint of a service is asked in its turn, by the worker, and not too many at once.

What it finds is published as the addresses of those that are not well, and goes into the choice of endpoints as what a
registry says of their health does. When thresholds are reached is `svcmesh.policy.health.checked`'s business, how an
endpoint is asked that of an `Asker`; here time passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from functools import partial
from threading import RLock
from typing import Any, Protocol
from weakref import WeakSet

from svcmesh.core.clock import Timer
from svcmesh.engine.ejections import Ejections
from svcmesh.engine.health.subject import Subject
from svcmesh.engine.member import Member
from svcmesh.engine.runtime import Runtime
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.checked import Change, Checked, wait_after
from svcmesh.policy.health.finding import TOOK_ITSELF_OUT, Asker, Unasked, Unwell
from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.policy import Policy

MOST_AT_ONCE = 64
"""Endpoints of one service that are asked at the same time; others wait for their turn, and their time does not run."""


class Host(Protocol):
    """What checks need of their cluster."""

    name: str
    runtime: Runtime
    lock: RLock
    members: dict[str, Member]
    departed: int
    picked: bool
    ejections: Ejections

    def rebuild(self) -> None:
        """Publish new pickers."""

    def wake(self) -> None:
        """Wake everybody who waits for endpoints."""

    def doubt(self) -> None:
        """Take note that an endpoint refuses connections."""


class Wanting(Protocol):
    """Who has endpoints checked: a view."""

    policy: Policy


class Checking:
    """The checks of one cluster by one configuration.

    Attributes:
        failing: why those take no calls that do not, by address; replaced, never changed.
        degraded: the addresses of those that take calls only where others do not suffice; likewise.
        wanted: the views it is for; it ends by itself once there is none. ended: it did.
        started: it is under way; until then calls take the machine, which starts it.

    Threads: `start` and `follow` hold the cluster's lock; what is beneath "on the worker's loop" runs there.
    """

    def __init__(self, cluster: Host, config: HealthCheck) -> None:
        self.failing: Mapping[str, Unwell] = {}
        self.degraded: Collection[str] = ()
        self.wanted: WeakSet[Wanting] = WeakSet()
        self.started = False
        self.ended = False
        self._cluster = cluster
        self._config = config
        self._subjects: dict[str, Subject] = {}
        self._left: list[Subject] = []
        self._asker: Asker = cluster.runtime.asker(config, cluster.name)
        self._running: Future[None] | None = None
        self._live = False
        self._under_way = 0
        self._queue: deque[Subject] = deque()
        self._reports: list[tuple[str, dict[str, Any]]] = []
        self._called = self._moved = self._flushing = False
        self._glance: Timer | None = None

    def checked(self, member: Member) -> Checked | None:
        """Return what is known of ``member``; None where it is not followed."""
        subject = self._subjects.get(member.endpoint.address)
        return None if subject is None or subject.member is not member else subject.checked

    def ejecting(self) -> set[OutlierDetection | None]:
        """Return how the policies that check so eject. The cluster's lock is held."""
        return {view.policy.outlier_detection for view in self.wanted}

    def start(self) -> None:
        """Begin to check, on the worker. The cluster's lock is held."""
        if not self.started:
            self._running = self._cluster.runtime.worker.submit(self._run())
            self.started = True

    def take_out(self, member: Member) -> None:
        """Take calls from an endpoint that has said so in an answer, until it passes its checks again. Threads: any."""
        ill = self.failing.get(member.endpoint.address)
        if self.started and (ill is None or not ill.excluded):  # else each answer would wake the worker
            self._cluster.runtime.worker.call(lambda _: self._take_out(member))

    def stop(self) -> None:
        """Check no more. Takes no lock."""
        if self._running is not None:
            self._running.cancel()

    def follow(self, members: Mapping[str, Member]) -> None:
        """Take note of who is there now: those that left are asked no more, those that came wait or are trusted."""
        known = self._subjects
        staying = {address: each for address, each in known.items() if members.get(address) is each.member}
        waits = any(each.checked.passed for each in staying.values())
        left = [each for address, each in known.items() if address not in staying]
        came = [address for address in members if address not in staying]
        if not left and not came:
            return
        counts = not self._config.ignore_new_hosts_until_first_hc
        newcomers = {address: Subject(members[address], waits=waits, counts=counts) for address in came}
        self._subjects = {**staying, **newcomers}
        self._left.extend(left)
        self._publish()
        if self.started:
            self._cluster.runtime.worker.call(lambda _: self._arrange())

    def _publish(self) -> None:
        found = [(address, subject.checked) for address, subject in self._subjects.items()]
        self.failing = {address: checked.ill for address, checked in found if checked.ill is not None}
        self.degraded = {address for address, checked in found if checked.degraded}

    # -- on the worker's loop --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._live = True
        self._arrange()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._live, self.ended = False, True
            for subject in [*self._subjects.values(), *self._left]:
                subject.end()
            if self._glance is not None:
                self._glance.cancel()
            self._asker.close()

    def _arrange(self) -> None:
        """Begin with those who came, and be done with those who left."""
        if not self._live:
            return
        with self._cluster.lock:
            left, self._left = self._left, []
            came = [subject for subject in self._subjects.values() if not subject.begun]
        for subject in left:
            subject.end()
            if subject.task is None:
                self._asker.forget(subject.member.endpoint)
        rng, jitter = self._cluster.runtime.rng, self._config.initial_jitter
        for subject in came:
            subject.begun = True
            if jitter:
                self._set(subject, jitter * rng.random())
            else:
                self._due(subject)

    def _set(self, subject: Subject, seconds: float) -> None:
        clock = self._cluster.runtime.clock
        subject.timer = clock.call_at(asyncio.get_running_loop(), clock.now() + seconds, partial(self._due, subject))

    def _due(self, subject: Subject) -> None:
        if subject.left or not self._live:
            return
        if not self.wanted:
            self._end_unless_wanted()
        elif self._under_way < MOST_AT_ONCE:
            self._ask(subject)
        else:
            self._queue.append(subject)

    def _end_unless_wanted(self) -> None:
        with self._cluster.lock:  # a view joins under it
            self.ended = not self.wanted
        if self.ended:
            self.stop()

    def _ask(self, subject: Subject) -> None:
        clock, loop = self._cluster.runtime.clock, asyncio.get_running_loop()
        self._under_way += 1
        subject.began = clock.now()
        subject.late = False
        subject.task = loop.create_task(self._asker.ask(subject.member.endpoint))
        subject.task.add_done_callback(partial(self._asked, subject))
        subject.timer = clock.call_at(loop, subject.began + self._config.timeout, subject.cut_off)

    def _asked(self, subject: Subject, task: asyncio.Task[bool]) -> None:
        self._under_way -= 1
        subject.task = None
        if subject.timer is not None:
            subject.timer.cancel()
        error = None if task.cancelled() else task.exception()
        if not self._live or (task.cancelled() and not subject.late and not subject.left):
            return  # the mesh is being closed
        while self._queue and self._under_way < MOST_AT_ONCE:
            self._due(self._queue.popleft())
        if subject.left:
            self._asker.forget(subject.member.endpoint)
        elif task.cancelled():
            self._settle(subject, Unwell(f"no answer within {self._config.timeout:g} s"))
        else:
            self._settle(subject, error, degraded=error is None and task.result())

    def _settle(self, subject: Subject, error: BaseException | None, *, degraded: bool = False) -> None:
        """Take note of how a check ended, tell of it, and set the time of the next one."""
        runtime, checked, first = self._cluster.runtime, subject.checked, subject.checked.first
        now, found, unasked = runtime.clock.now(), _found(error), isinstance(error, Unasked)
        change = Change.NONE if unasked else self._judge(subject, found, now, degraded=degraded)
        runtime.events.emit(
            "health_check.finished",
            self._cluster.name,
            endpoint=subject.member.endpoint,
            seconds=now - subject.began,
            passed=None if unasked else found is None,
            reason=None if found is None else found.reason,
        )
        if change is Change.CHANGED:
            self._tell(subject.member, found, first=first, degraded=degraded)
        if found is None and checked.ill is None:
            self._readmit(subject.member)
        if self._moved:
            self._flush_soon()
        passed = checked.ill is None if unasked else found is None
        traffic = self._has_traffic()
        self._set(subject, wait_after(self._config, change, runtime.rng, passed=passed, traffic=traffic))
        if not traffic and self._glance is None:
            self._look_for_traffic()

    def _take_out(self, member: Member) -> None:
        subject = self._subjects.get(member.endpoint.address)
        if not self._live or subject is None or subject.member is not member:
            return
        first = subject.checked.first
        if self._judge(subject, TOOK_ITSELF_OUT, self._cluster.runtime.clock.now(), degraded=False) is Change.CHANGED:
            self._tell(member, TOOK_ITSELF_OUT, first=first, degraded=False)
        if self._moved:
            self._flush_soon()

    def _judge(self, subject: Subject, found: Unwell | None, now: float, *, degraded: bool) -> Change:
        """Return what a finding changes, and publish that."""
        checked = subject.checked
        with self._cluster.lock:
            was, before = checked.ill, _shown(checked)
            change = checked.settle(found, self._config, degraded=degraded)
            if before != _shown(checked):
                if checked.ill is None and was is not None:
                    subject.member.since = now
                self._moved = True
                self._publish()
        return change

    def _readmit(self, member: Member) -> None:
        """Have ejections end for which it is enough that a check was passed: those of the policies that check so."""
        with self._cluster.lock:
            configs = self.ejecting()
        self._cluster.ejections.passed_check(member, configs)

    def _tell(self, member: Member, found: Unwell | None, *, first: bool, degraded: bool) -> None:
        if found is None:
            self._report("endpoint.healthy", endpoint=member.endpoint, first=first, degraded=degraded)
            if not first:
                member.renew()  # a channel that waits out its back-off would fail calls that now come again
        else:
            self._report("endpoint.unhealthy", endpoint=member.endpoint, reason=found.reason, first=first)
            if found.refusing:
                self._cluster.doubt()

    def _report(self, name: str, **fields: Any) -> None:
        """Tell of a change once it is in force."""
        self._reports.append((name, fields))
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Put in force what was found, in the next turn of the loop: one new picker is enough for all until then."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        reports, self._reports = self._reports, []
        moved, self._moved = self._moved, False
        if moved:
            self._cluster.rebuild()
            self._cluster.wake()  # calls that wait for an endpoint may have one
        for name, fields in reports:
            self._cluster.runtime.events.emit(name, self._cluster.name, **fields)

    def _look_for_traffic(self) -> None:
        """Look again after an interval: a service that is called at last must not be blind for a minute."""
        clock, loop = self._cluster.runtime.clock, asyncio.get_running_loop()
        self._glance = clock.call_at(loop, clock.now() + self._config.interval, self._look)

    def _look(self) -> None:
        if not self._live:
            return
        if not self._has_traffic():
            self._look_for_traffic()
            return
        queued, rng = set(self._queue), self._cluster.runtime.rng
        for subject in self._subjects.values():
            if subject.timer is not None and subject.task is None and subject not in queued:
                subject.timer.cancel()
                self._set(subject, self._config.interval * rng.random())

    def _has_traffic(self) -> bool:
        """Whether this process has ever called the service, or picked an endpoint of it to call by itself."""
        if not self._called:
            cluster = self._cluster
            self._called = (
                cluster.picked or cluster.departed > 0 or any(m.started for m in list(cluster.members.values()))
            )
        return self._called


def _shown(checked: Checked) -> tuple[object, ...]:
    """Return what others make use of."""
    ill = checked.ill
    return (checked.degraded, None if ill is None else (ill.reason, ill.refusing, ill.excluded))


def _found(error: BaseException | None) -> Unwell | None:
    """Return what is wrong with an endpoint, without the frames that an error holds on to; None: nothing."""
    if isinstance(error, Unwell):
        return Unwell(error.reason, answered=error.answered, refusing=error.refusing, excluded=error.excluded)
    if error is None:
        return None
    return Unwell(str(error) if isinstance(error, Unasked) else f"{type(error).__name__}: {error}")
