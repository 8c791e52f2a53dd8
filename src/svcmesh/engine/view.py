"""A service as callers under one policy see it: the published picker, and the few things a plain call does.

Publishing is what makes the success path straight. While nothing is out of the ordinary, `choose` is the picker's own
function; as soon as something is (a fault is armed, a breaker lets probes through, somebody listens to every call) it
is a function that offers nobody, and the call takes the machine, which asks all the questions. So the success path has
one test, and that is the pick itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from svcmesh.balance import hash_on
from svcmesh.balance.load_report import LoadReport
from svcmesh.balance.picker import Learning, Picker, Reported
from svcmesh.balance.stateful_session import Pinned
from svcmesh.balance.wrapping import innermost
from svcmesh.core.deadline import ambient_on
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine import lesson
from svcmesh.engine.breakers import Breakers
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.health.checking import Checking
from svcmesh.engine.member import NEVER, Member, Permits
from svcmesh.engine.selection import Selection
from svcmesh.engine.traffic import ClusterTraffic
from svcmesh.observe.events import PER_CALL
from svcmesh.policy.budget import Budget, RetryBudget
from svcmesh.policy.health.finding import Unwell
from svcmesh.policy.outlier import Ejection
from svcmesh.policy.outlier.fault import fault_of
from svcmesh.policy.policy import Policy

_ANSWERED = frozenset({Kind.SUCCESS, Kind.STATUS, Kind.ERROR})
_NO_BUDGET = RetryBudget(ratio=0.0, per_second=0, window=1)


class HeldBack(NamedTuple):
    """Why endpoints take no calls.

    Attributes:
        breaking: how many have a breaker that is open, or lets only probes through. ejected: how many are.
        wait: seconds until the first of them may take a call; None: none of them waits for a time.
    """

    breaking: int
    ejected: int
    wait: float | None


class View:
    """What calls of one service under one policy go through.

    Args:
        port: only endpoints with this port are called; None: all.
        yields: it goes by what discovery says of the policy, as soon as that says anything; see `current`.
        sent: the policy is one that discovery has sent.

    Attributes:
        choose: returns a member for a plain call, or None: take the machine. Read it anew on each call.
        breakers: the circuit breakers.
        picker: the picker behind it. budget: counts the calls, and pays for retries.
        per_try: seconds that one attempt may take; infinite for no limit. total: the same for a whole call.
        hash_on: the rules for the keys of calls; empty where no key is wanted. session: those of sessions; None: none.
        keyed: a request of HTTP or gRPC has a key or a session.
        limit: the smaller one of the two, for a plain call without a timeout of its own.
        checking: the health checks of this policy; None: it has none.
        learns: the balancer goes by how long calls take, so that straight lines owe it a `learn` at each end.
        reported: the balancer goes by what servers report of their load, so that transports owe it each `report`.
        port, yields, sent: as given.
        repeated: HTTP statuses that are worth another attempt, though by themselves no policy looks at them.
        reads_answers: answers are to be looked at: for such a report, for the session, for these statuses, or for
            what they say of the endpoint's health, where that is checked.
    """

    def __init__(
        self,
        cluster: Cluster,
        policy: Policy,
        *,
        port: int | None = None,
        yields: bool = False,
        sent: bool = False,
    ) -> None:
        self.cluster = cluster
        self.port = port
        self.yields = yields
        self.sent = sent
        self._successor: View | None = None
        self.checking: Checking | None = None
        self._by_port: dict[int, View] = {}
        self.policy = policy
        self.runtime = cluster.runtime
        self.clock = cluster.runtime.clock
        self.total = NEVER if policy.timeout is None else policy.timeout
        self.per_try = NEVER if policy.per_try_timeout is None else policy.per_try_timeout
        self.limit = min(self.total, self.per_try)
        self.hash_on = hash_on.rules(policy.hash_on)
        self.session = policy.stateful_session
        self.keyed = bool(self.hash_on) or self.session is not None
        self.choose: Callable[[], Member | None] = _nobody
        self._plain = False
        self.picker: Picker = Picker(())
        self.selection = Selection(policy, self.runtime, lambda: cluster.lock, cluster.rebuild)
        balancer = innermost(self.selection.balancer)
        self._learning = balancer if isinstance(balancer, Learning) else None
        self.learns = self._learning is not None
        self._reports = balancer if isinstance(balancer, Reported) else None
        self.reported = self._reports is not None
        self._refused: Callable[[Member], object] | None = getattr(self._reports, "refused", None)
        self.repeated: frozenset[int] = frozenset() if policy.retry is None else policy.retry.plain
        self.reads_answers = (
            self.reported or self.session is not None or bool(self.repeated) or policy.health_check is not None
        )
        self._previous_priorities = None if policy.retry is None else policy.retry.previous_priorities
        self._outliers = policy.outlier_detection
        if getattr(self.selection.balancer, "slow", False):  # its first table: here nobody waits for the cluster's lock
            self.selection.update(self.members(), {}, lambda _: False, self.clock.now())
        self._join()

    def _join(self) -> None:
        """Take what is shared from the cluster, and let it rebuild us from now on."""
        config = self.policy.retry.budget if self.policy.retry is not None else None
        config = config or _NO_BUDGET
        self.budget = self.cluster.shared(config, lambda: Budget(config, self.clock.now()))
        self.breakers = Breakers(self.cluster, self.policy, self.members)
        self.traffic = ClusterTraffic(self.cluster)
        windows = [b.window for b in self.policy.breakers]
        if self._outliers is not None:
            windows.append(self._outliers.interval)
            self.cluster.ejections.join(self._outliers, self)
        self._have_checked()
        if self._successor is not None:
            self.succeeded_by(self._successor)
        self.cluster.join(self, windows)

    # -- a policy that discovery sends -----------------------------------------------------------------------------

    @property
    def current(self) -> View:
        """The view that calls which begin now go through: this one, or the one that took its place.

        A view that was succeeded offers nobody on the success path; so those who hold it need not ask before each call,
        but only when they are about to take the machine.
        """
        successor = self._successor
        return self if successor is None else successor.current

    def heed(self, sent: Policy | Mapping[str, Any] | None) -> None:
        """Let calls that begin from now on go by what discovery says: a policy, some fields of ours, or nothing.

        Calls that are under way end as they began.

        Raises:
            ConfigError: that is no policy, or would make none that is valid.
        """
        policy, before = self.policy.as_sent(sent), self.current
        if policy == before.policy:
            return
        if policy == self.policy:
            self._successor = None
            self._have_checked()
        else:
            self.succeeded_by(View(self.cluster, policy, sent=True))
        if before is not self:
            before.succeeded_by(self)  # only now: else the two would point at each other for a moment
        self.cluster.rebuild()

    def succeeded_by(self, view: View) -> None:
        """Leave calls to come to ``view``, and let go of what only these would need."""
        self._successor = view
        self._by_port = {}
        if self.checking is not None:
            self.checking.wanted.discard(self)  # what it has found still counts for the calls that are under way

    def _have_checked(self) -> None:
        """Have endpoints asked whether they are well, where the policy says so."""
        check = self.policy.health_check
        self.checking = None if check is None else self.cluster.health.join(check, self)

    # -- the success path ------------------------------------------------------------------------------------------

    def key_of(self, subject: hash_on.Subject) -> int | None:
        """Return the key of a request; None where the policy wants none or no rule finds anything."""
        key = hash_on.key_of(self.hash_on, subject)
        return key if self.session is None else self.session.key_of(subject, key)

    def enter(self, now: float, key: int | None = None) -> Member | None:
        """Start a plain attempt: pick an endpoint and count it in flight. None: this call needs the machine.

        Whoever gets a member owes it one ``member.finished += 1``, or hands it to the machine (`Call.adopt`).
        """
        member = self.choose() if key is None else self._choose_by(key)
        if member is None:
            return None
        self.budget.calls += 1
        if now >= member.due:
            member.roll(now)
        member.started += 1
        return member

    def leave(self, member: Member) -> None:
        """Take an `enter` back: the channel turned out to be closed, so that there is no attempt, nor a call."""
        self.budget.calls -= 1
        member.started -= 1

    def _choose_by(self, key: int) -> Member | None:
        """Return the member that a key or a session belongs to, where calls may go straight."""
        if not self._plain:
            return None
        if self.session is not None:
            return self.choose_from(key, (), ())
        return cast("Member | None", self.picker.choose_from(key, ()))

    def learn(self, member: Member, started: float) -> None:
        """Tell a balancer that ``learns`` of an attempt that ended well, or of whose answer the first sign has come.

        ``started``: when it began. For straight lines; the machine's attempts are told by `settle`.
        """
        if self._learning is not None:
            now = self.clock.now()
            self._learning.learn(member, now - started, now, False)

    def report(self, member: Member, load: LoadReport) -> None:
        """Tell a balancer that is ``reported`` what the server of ``member`` says of its load."""
        if self._reports is not None:
            self._reports.reported(member, load, self.clock.now())

    def deadline(self, now: float, timeout: float | None = None) -> float:
        """Return when a call that starts now must have ended: its own timeout or the policy's, or the ambient one.

        Raises:
            TypeError: ``timeout`` is no number. A NaN passes here, and `Call` refuses it.
        """
        try:
            own = now + (self.total if timeout is None else timeout)
        except TypeError:
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}") from None
        ambient = ambient_on(self.clock)
        return own if ambient is None else min(own, ambient)

    # -- what the machine asks -------------------------------------------------------------------------------------

    def settle(
        self,
        member: Member,
        permits: Permits,
        outcome: Outcome,
        now: float,
        seconds: float,
        *,
        over: bool = True,
        begun: bool = False,
    ) -> None:
        """Take note of how an attempt ended: counts, breakers, ejection and balancer learn of it, exactly once.

        ``over``: it is no longer in flight; else whoever has its stream owes ``member.finished += 1``, and
        ``member.streaming -= 1`` before that if the stream is made a ``bad`` one here. The counts stand side by
        side, so that concurrent failures never look like successes that come and go.
        ``begun``: its answer had begun to arrive, which its balancer knows, and nothing else of the time counts.
        """
        good = False if outcome.blames else True if outcome.kind in _ANSWERED else None
        fault = fault_of(outcome)
        if not good:
            member.unsuccessful += 1
        elif fault is not None:
            member.faulty += 1
        if over:
            member.finished += 1
        elif outcome.stream is not None and (not good or fault is not None):
            outcome.stream.bad = True
            member.streaming += 1
        if self._learning is not None:
            failed = lesson.failed(outcome)
            if failed or not begun:
                self._learning.learn(member, 0.0 if begun else seconds, now, failed)
        self.breakers.settle(member, permits, outcome, good, now, seconds)
        if outcome.blames and outcome.refused:
            self.cluster.doubt()
            if self._refused is not None:
                self._refused(member)
        if fault is not None and self._outliers is not None and self._outliers.counts(fault):
            self.cluster.ejections.failed(self._outliers, member, outcome, now)

    def choose_from(self, key: int | None, exclude: Collection[Endpoint], tried: Sequence[Endpoint]) -> Member | None:
        """Return whom to ask next, not one of the excluded ones; None when there is nobody. ``tried``: so far."""
        if isinstance(key, Pinned):
            pinned = key.choose(self.picker, exclude)
            if pinned is not None or key.strict:
                return cast("Member | None", pinned)
            key = key.key
        if self._previous_priorities is None:
            cell = self.picker.choose_from(key, exclude)
        else:
            cell = self.selection.choose_elsewhere(key, exclude, tried, self._previous_priorities)
        return cast("Member | None", cell)  # cells of an engine are members

    def held_back(self, now: float) -> HeldBack:
        """Return how many endpoints open breakers and ejections keep calls from, and when the first is free again."""
        breaking = ejected = 0
        waits: list[float] = []
        for member in self.members():
            opened = [breaker for breaker in self.breakers.of(member) if breaker.state != "closed"]
            ejection = self.ejections().get(member.endpoint.address)
            breaking += bool(opened)
            ejected += ejection is not None
            ends = [breaker.retry_after(now) for breaker in opened]
            wait = max(ends if ejection is None else [*ends, ejection.until - now], default=0.0)
            if wait > 0:
                waits.append(wait)
        return HeldBack(breaking, ejected, min(waits, default=None))

    # -- publishing ------------------------------------------------------------------------------------------------

    def rebuild(self, now: float) -> None:
        """Publish a new picker over the members that may be called now. The cluster's lock is held."""
        probing: list[Member] = []

        def is_open(member: Member) -> bool:
            if not member.breakers:
                return False
            states = self.breakers.states(member, now)
            if "half-open" in states:
                probing.append(member)
            return "open" in states

        self.selection.update(self.members(), self.ejections(), is_open, now, self.failing(), self.degraded())
        self.cluster.look_at(self.selection.again_at)
        self.picker = self.selection.plan.picker
        self._plain = plain = self._is_plain(bool(probing), now)
        self.choose = cast("Callable[[], Member | None]", self.picker.choose) if plain else _nobody

    def on_port(self, port: int) -> View:
        """Return a view of the endpoints that have ``port``: the same one as long as there are any."""
        if self._successor is not None:
            return self.current.on_port(port)
        with self.cluster.lock:
            ports = {member.endpoint.port for member in self.cluster.members.values()}
            self._by_port = {each: view for each, view in self._by_port.items() if each in ports}
            found = self._by_port.get(port)
        if found is None:
            made = View(self.cluster, self.policy, port=port)  # listeners may hear of it: no lock may be held
            with self.cluster.lock:
                found = self._by_port.setdefault(port, made)
        return found

    def members(self) -> list[Member]:
        """Return all endpoints that calls may go to, well or not."""
        members = list(self.cluster.members.values())
        return members if self.port is None else [m for m in members if m.endpoint.port == self.port]

    @property
    def panicking(self) -> frozenset[int]:
        """The priorities that are in panic."""
        return self.selection.panicking

    def ejections(self) -> Mapping[str, Ejection]:
        """Return who is ejected under this policy, by address."""
        return {} if self._outliers is None else self.cluster.ejections.detector(self._outliers).ejected

    def failing(self) -> Mapping[str, Unwell]:
        """Return who does not pass the health checks of this policy, by address."""
        return {} if self.checking is None else self.checking.failing

    def degraded(self) -> Collection[str]:
        """Return whom the health checks of this policy found degraded, by address."""
        return () if self.checking is None else self.checking.degraded

    def _is_plain(self, probing: bool, now: float) -> bool:
        policy, retry = self.policy, self.policy.retry
        return not (
            self.breakers.want_all_calls(now)
            or self._successor is not None
            or probing
            or self.cluster.asleep
            or (self.checking is not None and not self.checking.started)
            or self.runtime.closed
            or policy.all_faults
            or self.cluster.faults
            or self.runtime.events.wanted & PER_CALL
            or (retry is not None and retry.wants_results)
        )

    def reset_after_fork(self) -> None:
        """In a forked child: join the cluster anew."""
        self.choose = _nobody
        self._plain = False
        self.selection.reset_after_fork()
        self._join()


def _nobody() -> None:
    """Offer nobody: the call has to take the machine."""
    return
