"""One service as this process sees it: its members, what is known of their health, and the views that call it.

Everything here happens off the success path: snapshots, failures, ejections and their ends change the state under one
lock and publish the result as new pickers. Callers only ever read what was published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from threading import RLock
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Difference, Snapshot
from svcmesh.discovery.base import Lag
from svcmesh.engine.draining import drain
from svcmesh.engine.ejections import Ejections
from svcmesh.engine.health.health_checks import HealthChecks
from svcmesh.engine.member import NEVER, Commons, Member
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.watch_state import WatchState
from svcmesh.policy.fault import Fault

S = TypeVar("S")
Report = tuple[str, dict[str, Any]]
"""An event to emit once no lock is held: its name and its fields."""
TICKS_PER_WINDOW = 10
_UNHEALTHY = Health.UNHEALTHY  # a look at a member of an enumeration takes as long as all else that is asked of one


class Subscriber(Protocol):
    """What a view is to its cluster: something to rebuild when the state has changed."""

    yields: bool

    @property
    def panicking(self) -> Collection[int]:
        """The priorities that are in panic, as of the last `rebuild`."""

    def heed(self, sent: Any) -> None:
        """Let calls that begin from now on go by what discovery says of their policy, if it ``yields``."""

    def rebuild(self, now: float) -> None:
        """Publish a new picker."""

    def reset_after_fork(self) -> None:
        """Start afresh in a forked child."""


class Followed(Protocol):
    """What feeds a cluster, as far as the cluster has to know it."""

    @property
    def state(self) -> WatchState:
        """What is known of the watch."""

    @property
    def lag(self) -> Lag | None:
        """What discovery goes on with although it cannot ask for it."""

    def doubt(self) -> None:
        """Have discovery ask again, where it can."""

    def reset_after_fork(self) -> None:
        """Start afresh in a forked child."""


class Cluster:
    """The shared state of one service. Threads: any; callers of the public methods hold no lock of ours.

    Attributes:
        members: the endpoints in force, by address. offered: those that discovery does not call unhealthy.
        ejections: which of them are out of rotation. health: what checks of ours say of them.
        ready: whether a snapshot is in force. changed_at: since when.
        departed: successes of endpoints that have left, so that sums over the service never shrink.
        news: how often those who wait for endpoints were woken; who sees it change need not wait.
        failure: what discovery failed with last, while it fails.
        advice: what would help whoever waits for a first snapshot in vain, as the end of a message.
        need: starts discovery; asked by each call that is no plain one. Cost once it runs: one comparison.
        timers: as given.
        picked: somebody asked whom to call, probably to call it: that is traffic, as far as anybody can know.
        asleep: the endpoints are those of the process that forked this one, and nothing follows them yet.

    Args:
        timers: whether the worker looks after what is due when no call does; only listeners and readers of the state
            can tell.
    """

    def __init__(self, name: str, runtime: Runtime, *, timers: bool = True) -> None:
        self.name = name
        self.runtime = runtime
        self.lock = RLock()
        self.members: dict[str, Member] = {}
        self.offered: tuple[Endpoint, ...] = ()
        self.ejections = Ejections(self)
        self.health = HealthChecks(self)
        self.ready = False
        self.changed_at: float | None = None
        self.faults: tuple[Fault, ...] = ()
        self.draining: set[Member] = set()
        self.departed = 0
        self.news = 0
        self.failure: str | None = None
        self.advice = ""
        self.need: Callable[[], object] = _nothing
        self.picked = False
        self.asleep = False
        self.follower: Followed | None = None
        self.timers = timers
        self._commons = Commons(self.look)
        self._shared: dict[Hashable, Any] = {}
        self._views: WeakSet[Subscriber] = WeakSet()
        self._waiters: set[Callable[[], object]] = set()
        self._waiting = RLock()  # their own: `lock` is held while a first table is built, and waits must end in time
        self._reports: deque[Report] = deque()
        self._rebuilding = False
        self._stale = False
        self._panicking: set[int] = set()
        self._sent: Any = None
        self._due = NEVER

    # -- what views share ------------------------------------------------------------------------------------------

    def shared(self, key: Hashable, make: Callable[[], S]) -> S:
        """Return the one object of this cluster for ``key`` (a configuration), made at first need."""
        with self.lock:
            if key not in self._shared:
                self._shared[key] = make()
            found: S = self._shared[key]
            return found

    @property
    def views(self) -> list[Subscriber]:
        """Those that take part."""
        return list(self._views)

    def join(self, view: Subscriber, windows: list[float]) -> None:
        """Let ``view`` take part; ``windows`` are the seconds back for which it wants successes remembered."""
        with self.lock:
            self._views.add(view)
            commons = self._commons
            if windows and (max(windows) > commons.horizon or min(windows) / TICKS_PER_WINDOW < commons.tick):
                commons.horizon = max(commons.horizon, *windows)
                commons.tick = min(commons.tick, min(windows) / TICKS_PER_WINDOW)
                for member in self.members.values():
                    member.restart_timeline()
        self.rebuild()

    # -- snapshots -------------------------------------------------------------------------------------------------

    def apply(self, snapshot: Snapshot, known_at: float | None = None) -> None:
        """Put a new snapshot in force. Members that stay keep their state, those that left are drained.

        Args:
            snapshot: what is there. known_at: the instant of which that is true, if it is not now.
        """
        now = self.runtime.clock.now()
        with self.lock:
            age = None if self.changed_at is None else now - self.changed_at
            members, added, changed = self._members(snapshot.endpoints, now)
            staying = len(members) - len(added)
            left = [] if staying == len(self.members) else [m for a, m in self.members.items() if a not in members]
            change = Difference(tuple(added), tuple(member.endpoint for member in left), tuple(changed))
            self.members = members
            self.draining.update(left)
            self.departed += sum(member.succeeded for member in left)
            restored = self.ejections.forget(left)
            self.health.follow(members)
            self._republish()
            # Last: whoever sees endpoints, and does not wait for them any more, has to find them in the pickers, too.
            self.offered = tuple([e for e in snapshot.endpoints if e.health is not _UNHEALTHY])
            self.ready, self.changed_at = True, now if known_at is None else known_at
        self.flush()
        self._heed(snapshot.policy)
        self.wake()
        self.ejections.report_restored(restored)
        if change:
            self.runtime.events.emit(
                "endpoints.changed",
                self.name,
                added=change.added,
                removed=change.removed,
                changed=change.changed,
                age=age,
            )
        if left:
            drain(self.runtime, self.draining, left)

    def _heed(self, sent: Any) -> None:
        """Have calls go by what discovery says of their policy; what makes no valid one is told, and left out."""
        sent = dict(sent) if isinstance(sent, Mapping) else sent  # as it is now, whatever the backend does with it
        if sent == self._sent:
            return
        self._sent = sent
        try:
            for view in self.views:
                if view.yields:
                    view.heed(sent)
        except ConfigError as error:
            self.runtime.events.emit("config.warning", self.name, error=f"the policy that discovery sends: {error}")
        else:
            self.runtime.events.emit("config.reloaded", self.name, source="discovery")

    def _members(
        self, endpoints: Iterable[Endpoint], now: float
    ) -> tuple[dict[str, Member], list[Endpoint], list[Endpoint]]:
        """Return the members for these endpoints, and which of these are new and which have changed.

        Most of thousands are the very objects that they were before, see `svcmesh.core.snapshot.sharing`.
        """
        known, commons = self.members, self._commons
        members: dict[str, Member] = {}
        added: list[Endpoint] = []
        changed: list[Endpoint] = []
        for endpoint in endpoints:
            address = endpoint.address
            member = known.get(address)
            if member is None:
                member = Member(endpoint, commons, now)
                added.append(endpoint)
            elif member.endpoint is not endpoint:
                before, member.endpoint = member.endpoint, endpoint
                if before.health is _UNHEALTHY and endpoint.health is not _UNHEALTHY:
                    member.since = now
                if before != endpoint:
                    changed.append(endpoint)
            members[address] = member
        return members, added, changed

    # -- waiting for endpoints -------------------------------------------------------------------------------------

    def add_waiter(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` at each snapshot and each discovery failure, until it is removed.

        It is called on any thread, must not block, and must not raise: those after it would not be woken.
        """
        with self._waiting:
            self._waiters.add(wake)

    def remove_waiter(self, wake: Callable[[], object]) -> None:
        """Stop calling ``wake``."""
        with self._waiting:
            self._waiters.discard(wake)

    def wake(self) -> None:
        """Wake everybody who waits for endpoints."""
        with self._waiting:
            self.news += 1
            waiters = list(self._waiters)
        for wake in waiters:
            wake()

    # -- health ----------------------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """Take note that an endpoint refuses connections: it may have moved."""
        if self.follower is not None:
            self.follower.doubt()

    def look_at(self, when: float) -> None:
        """Have `look` called at ``when`` or soon after: by the next call, or by the worker where none comes."""
        with self.lock:
            if when >= self._due or when == NEVER:
                return
            self._due = when
            for member in self.members.values():
                member.due = min(member.due, when)
        if self.timers:
            self.runtime.call_at(when, lambda: self.look(self.runtime.clock.now()))

    def look(self, now: float) -> float:
        """Do what is due (ejections that end, breakers that half-open); return the next instant to look."""
        self.ejections.called(now)
        if now < self._due:
            return self._due
        with self.lock:
            self._due = NEVER
            restored = self.ejections.due(now)
        for member in restored:
            member.renew()  # it may be back since the last probe: a back-off would eject it again, for longer
        self.rebuild()
        self.ejections.report_restored([member.endpoint for member in restored])
        with self.lock:
            self.look_at(self.ejections.next_return())
        return self._due

    # -- publishing ------------------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Publish new pickers to every view, then report what that amounted to."""
        if self._republish():
            self.flush()

    def _republish(self) -> bool:
        """Publish new pickers; False: that is under way below us, and whoever does it will report."""
        with self.lock:
            self._stale = True
            if self._rebuilding:
                return False  # a breaker changed while it was being asked: the loop below goes round once more
            self._rebuilding = True
            try:
                while self._stale:
                    self._stale = False
                    now = self.runtime.clock.now()
                    for view in self.views:
                        view.rebuild(now)
                self._note_panics()
            finally:
                self._rebuilding = False
        return True

    def _note_panics(self) -> None:
        """Note which priorities have left their panic, and which are in one now, under whatever policy."""
        before, self._panicking = self._panicking, self._in_panic()
        for priority in sorted(before - self._panicking):
            self.note("panic.left", priority=priority)
        for priority in sorted(self._panicking - before):
            self.note("panic.entered", priority=priority)

    def _in_panic(self) -> set[int]:
        return {priority for view in self.views for priority in view.panicking}

    def note(self, name: str, **fields: Any) -> None:
        """Remember an event that happened under the lock; `flush` emits it."""
        self._reports.append((name, fields))

    def flush(self) -> None:
        """Emit what was noted, with no lock held: a listener may call us back."""
        while self._reports:
            try:
                name, fields = self._reports.popleft()
            except IndexError:
                return  # another thread was quicker
            self.runtime.events.emit(name, self.name, **fields)

    def arm(self, *faults: Fault) -> Callable[[], None]:
        """Put faults in force for all views; return what takes these very ones out again."""
        with self.lock:
            self.faults = (*self.faults, *faults)
        self.rebuild()

        def disarm() -> None:
            with self.lock:
                left = list(self.faults)
                for fault in faults:
                    left.remove(fault)
                self.faults = tuple(left)
            self.rebuild()

        return disarm

    def close(self) -> None:
        """Close everything that transports keep for the members, now."""
        with self.lock:
            members = [*self.members.values(), *self.draining]
            self.draining.clear()
        self.rebuild()  # from now on calls take the machine, which refuses them
        for member in members:
            member.close()
        self.health.close()
        self.wake()

    def reset_after_fork(self) -> None:
        """In a forked child: new locks and members, since connections and counts belong to the parent."""
        self.lock = RLock()
        self._waiting = RLock()
        self._waiters = set()
        self._reports.clear()
        self.draining = set()
        of_parent, self.members = self.members, {}
        self.ejections, self.health, self._shared = Ejections(self), HealthChecks(self), {}
        self._due = NEVER
        self._commons.guard = RLock()
        self.members = {address: Member(m.endpoint, self._commons, m.since) for address, m in of_parent.items()}
        if self.follower is not None:
            self.follower.reset_after_fork()
        self._rebuilding = True  # no view is built while another has breakers of the parent's: their locks may be held
        for view in self.views:
            view.reset_after_fork()
        now, self._rebuilding, self._stale = self.runtime.clock.now(), False, False
        for view in self.views:
            view.rebuild(now)
        self._panicking = self._in_panic()  # of which the parent has told, and no listener is called within a fork


def _nothing() -> None:
    """Nobody has said how this cluster learns of its endpoints."""
