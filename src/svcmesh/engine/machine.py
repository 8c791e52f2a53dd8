"""The call machine: one logical call, from the first thing that is not a plain success to its end.

It decides and never acts. A driver asks `poll` what to do, does it, and reports the end of each attempt to `ended`;
time comes in as a number. So blocking callers, awaiting ones, callbacks and simulations share every decision, and a
test of a decision is a method call. Attempts are named in effects and reports, so that several may be open.

The one law: what was admitted is settled exactly once, whatever comes; `abandon` settles what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from svcmesh.core.endpoint import PICKED, Endpoint
from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, SvcmeshError
from svcmesh.core.info import CallInfo, attach
from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, Kind, Outcome
from svcmesh.engine import refusal
from svcmesh.engine.effects import Discard, Done, Effect, Start, Wait
from svcmesh.engine.exchange import Attempt, Exchange
from svcmesh.engine.gate import Gate
from svcmesh.engine.injection import injected
from svcmesh.engine.member import NEVER, Member, Permits
from svcmesh.engine.view import View
from svcmesh.policy.fault import Abort, Injection
from svcmesh.policy.retry import Again, Ask

PATIENCE = 0.1
"""Seconds between attempts of a call that waits for a server to come up, once it has tried all endpoints."""

_EARLY = 0.05
"""Share of its time by which an attempt may end before it is up and still have run into it: timers of others are
set from here, and theirs count a little differently."""

_NOTHING = Injection(0.0, None)


@dataclass(slots=True)
class _Held:
    """An attempt on its way to the transport, where a fault may hold it back."""

    attempt: Attempt
    until: float
    abort: Abort | None


class Call:
    """One logical call under a view. Not thread-safe: its driver reports one thing at a time.

    Args:
        view: the service that it goes to, under its policy.
        exchange: the transport's side of it.
        now: the present instant. deadline: when the whole call must have ended; infinite for never.
        retries: False for an attempt that svcmesh cannot repeat, because its body is the caller's own block.

    Raises:
        ConfigError: a deadline that is NaN, as its timeout was; no straight line starts such a call.
    """

    def __init__(
        self,
        view: View,
        exchange: Exchange,
        now: float,
        deadline: float = NEVER,
        *,
        retries: bool = True,
    ) -> None:
        refusal.check_deadline(view.cluster, deadline)
        self.view = view
        self.exchange = exchange
        self.deadline = deadline
        self.began = now
        self.endpoints: list[Endpoint] = []
        self.waits: list[float] = []
        self._retry = view.policy.retry if retries else None
        self._gate = Gate(view)
        self._admitted = False  # all that stands before the whole call has been passed
        self._fault: Injection | None = None  # what was drawn for the whole call; None before the draw
        self._wake = now  # no attempt starts before this instant
        self._seen = 0  # the count of the cluster's news before anything was looked at last
        self._informed = False  # whether there was a snapshot then
        self._elsewhere = False  # the next attempt is free as long as it goes to an endpoint not tried yet
        self._open: list[Attempt] = []  # started and not ended
        self._held: list[_Held] = []  # those of them that have not started yet
        self._due: Attempt | None = None  # that of them which starts as soon as the answer before it is released
        self._last: Outcome | None = None  # how the newest attempt ended; what the caller gets if no other follows
        self._unused: list[Outcome] = []  # answers that another attempt replaces, to be released by the driver
        self._reason = ""  # why the call ended as it did, for its story
        self._result: Outcome | None = None  # the end of the call

    # -- what drivers call -----------------------------------------------------------------------------------------

    def adopt(self, member: Member, started: float) -> Attempt:
        """Take over the attempt of the success path, which was admitted without permits: every breaker was closed."""
        self._admitted = True
        self._gate.adopt()
        return self._begin(member, (), started)

    def poll(self, now: float) -> Effect:
        """Return what must be done next. Ask again after each effect, each end of an attempt, and each wait."""
        if self._unused:
            return Discard(self._unused.pop())
        if self._result is not None:
            return Done(self._result)
        if self._due is not None:
            due, self._due = self._due, None
            return Start(due)
        if self._held:
            return self._let_go(self._held[0], now)
        if self._open:
            return Wait(NEVER)
        self._seen, self._informed = self.view.cluster.news, self.view.cluster.ready
        over = self._over(now)
        if over is not None:
            return over
        if now < self._wake:
            return Wait(min(self._wake, self.deadline), seen=self._seen)
        return self._next(now)

    def ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Take the end of ``attempt``; decide whether another one follows."""
        self._open.remove(attempt)
        if outcome.kind is Kind.TIMEOUT and attempt.final and _ran_out(attempt, now):
            outcome.kind, outcome.blames, outcome.reason = Kind.DEADLINE, False, "deadline"
        self._settle(attempt, outcome, now)
        self._lay_aside(self._last)
        self._last = outcome
        if outcome.kind is Kind.SUCCESS and (self._retry is None or not self._retry.wants_results):
            self._finish(outcome, now)
        else:
            self._judge(outcome, now)

    def abandon(self, now: float) -> None:
        """Settle everything that is open as cancelled: the caller is gone, and must not have been told `Done`.

        Poll on afterwards: answers that nobody will see are still to be discarded.
        """
        self._lay_aside(self._last)
        if self._result is not None:
            return
        for attempt in list(self._open):
            self._open.remove(attempt)
            self._settle(attempt, Outcome(Kind.CANCELLED), now)
        self._held.clear()
        self._finish(Outcome(Kind.CANCELLED, reason="cancelled"), now)

    def _lay_aside(self, outcome: Outcome | None) -> None:
        if outcome is not None and outcome.value is not None:
            self._unused.append(outcome)

    # -- starting an attempt ---------------------------------------------------------------------------------------

    def _next(self, now: float) -> Effect:
        self.view.cluster.look(now)
        self.view.cluster.need()
        if not self._admitted:
            refused = self._admit(now)
            if refused is not None:
                return refused
        elif self._last is not None and self._gate.shut:
            self._reason = "breaker"
            return self._finish(self._last, now)
        found = self._pick(now)
        if not isinstance(found, tuple):
            return found
        member, permits = found
        if now >= member.due:
            member.roll(now)
        member.started += 1
        attempt = self._begin(member, permits, now)
        injection = injected(self.view, "attempt", self.exchange.method, member.endpoint, attempt.number) or _NOTHING
        self._held.append(_Held(attempt, now + injection.delay, injection.abort))
        return self._let_go(self._held[0], now)

    def _admit(self, now: float) -> Effect | None:
        """Pass the gates that stand before the whole call: faults, then the service's breakers."""
        if self._fault is None:
            self._fault = injected(self.view, "call", self.exchange.method) or _NOTHING
            if self._fault.delay > 0:
                self._wake = now + self._fault.delay
                return Wait(min(self._wake, self.deadline), seen=self._seen)
        if self._fault.abort is not None:
            self._reason = "fault"
            return self._finish(self.exchange.aborted(self._fault.abort), now)
        self.view.budget.calls += 1
        self._admitted = True
        wait = self._gate.admit(now)
        return None if wait is None else self._reject(refusal.service_open(self.view.cluster, wait), "breaker", now)

    def _pick(self, now: float) -> tuple[Member, Permits] | Effect:
        """Pick an endpoint not tried yet, else any; where its breaker refuses, another one is picked at no cost."""
        refused: set[Endpoint] = set()
        found = self._ask_for(now, {*self.endpoints}, refused)
        if found is None and self._elsewhere:
            self._turn_back(now)
            return self.poll(now)
        if found is None and self.endpoints:
            found = self._ask_for(now, set(), refused)
        return self._nobody(now, breakers=bool(refused)) if found is None else found

    def _turn_back(self, now: float) -> None:
        """Wait and pay after all: the next attempt was free only as long as it went to somebody else."""
        self._elsewhere = False
        if self._last is None:
            self._wake = now + PATIENCE
        else:
            self.waits.pop()
            self._judge(self._last, now, elsewhere=False)

    def _ask_for(self, now: float, exclude: set[Endpoint], refused: set[Endpoint]) -> tuple[Member, Permits] | None:
        """Pick until one admits the call; those whose breakers do not are added to ``refused``."""
        while True:
            member = self.view.choose_from(self.exchange.key, exclude | refused, self.endpoints)
            if member is None:
                return None
            permits = self.view.breakers.admit(member, now)
            if permits is not None:
                return member, permits
            refused.add(member.endpoint)

    def _nobody(self, now: float, *, breakers: bool) -> Effect:
        """Say why there is nobody to ask, or wait where waiting may help; ``breakers``: some have just refused."""
        cluster = self.view.cluster
        if self._last is not None:
            self._reason = self._reason or ("closed" if cluster.runtime.closed else "no other endpoint")
            return self._finish(self._last, now)
        if cluster.runtime.closed:
            return self._reject(refusal.no_endpoints(cluster), "closed", now)
        held_back = self.view.held_back(now)
        breakers = breakers or held_back.breaking > 0
        if not self.exchange.patient and (breakers or self._informed):
            error = refusal.nobody(self.view, self.exchange.key, now, held_back if breakers else None)
            return self._reject(error, "breaker" if isinstance(error, CircuitOpen) else "no endpoints", now)
        if breakers:  # they let a probe through by themselves, at the latest when their time is over
            self._wake = now + PATIENCE
            return Wait(min(self._wake, self.deadline), seen=self._seen)
        until = self._wake + self.exchange.lookup
        if now >= until:
            return self._reject(refusal.not_found(cluster, self.exchange.lookup), "deadline", now)
        return Wait(min(until, self.deadline), seen=self._seen)

    def _begin(self, member: Member, permits: Permits, now: float) -> Attempt:
        until = now + self.view.per_try  # the deadline holds the policy's timeout, or the caller's longer one
        final = until >= self.deadline
        attempt = Attempt(len(self.endpoints) + 1, member, now, min(until, self.deadline), final, permits)
        self.endpoints.append(member.endpoint)
        self._open.append(attempt)
        return attempt

    def _let_go(self, held: _Held, now: float) -> Effect:
        """Hold an attempt back for an injected delay, inside its own time; then abort it or start it."""
        attempt, self._seen = held.attempt, self.view.cluster.news
        if self.view.runtime.closed or self.exchange.cut_off() is not None:
            self._held.remove(held)
            self._open.remove(attempt)
            self._settle(attempt, Outcome(Kind.CANCELLED), now)
            return self.poll(now)
        if now < min(held.until, attempt.until):
            return Wait(min(held.until, attempt.until), seen=self._seen)
        self._held.remove(held)
        if now >= attempt.until:
            self.ended(attempt, self.timed_out(attempt), now)
        elif held.abort is not None:
            self.ended(attempt, self.exchange.aborted(held.abort), now)
        else:
            self._lay_aside(self._last)  # nobody will get it now, and a body still to come holds a connection
            self._last, self._due = None, attempt
        return self.poll(now)

    # -- after an attempt ------------------------------------------------------------------------------------------

    def timed_out(self, attempt: Attempt) -> Outcome:
        """Return the outcome of an attempt that used up its time, for drivers that cut it off themselves."""
        error = self.exchange.refusal(refusal.no_answer(self.view.cluster, attempt))
        if self.exchange.unsent and not attempt.final:
            return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=True)
        return Outcome(Kind.TIMEOUT, error, reason=PER_TRY_TIMEOUT, blames=True)

    def _settle(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        member = attempt.member
        over = outcome.value is None or not self.exchange.deferred
        seconds = now - attempt.started
        self.view.settle(member, attempt.permits, outcome, now, seconds, over=over)
        self._emit("attempt.finished", endpoint=member.endpoint, seconds=seconds, outcome=outcome.kind.value)

    def _judge(self, outcome: Outcome, now: float, *, elsewhere: bool = True) -> None:
        """Schedule another attempt, or end the call with this outcome; ``elsewhere``: others may be left to try."""
        if outcome.refused and self.exchange.patient and self.exchange.replayable():
            self._last = None  # nobody is there yet: to wait for that is what was asked for
            self._elsewhere = self._ask(outcome, now, elsewhere=True).untried
            self._wake = now if self._elsewhere else now + PATIENCE
            return
        retry = self._retry
        if retry is None or outcome.kind in {Kind.CANCELLED, Kind.DEADLINE, Kind.REJECTED}:
            self._reason = "" if outcome.kind is Kind.SUCCESS else outcome.reason or outcome.kind.value
            self._finish(outcome, now)
            return
        ask = self._ask(outcome, now, elsewhere=elsewhere)
        answer = retry.decide(ask, self.view.budget, self.view.runtime.rng)
        if isinstance(answer, Again):
            self._schedule(ask, answer.seconds)
            return
        wanted = answer.reason != "not-retryable"
        if wanted:
            self._emit("retry.refused", reason=answer.reason)
        if wanted or outcome.kind is not Kind.SUCCESS:
            self._reason = f"{outcome.reason or outcome.kind.value}; {answer.reason}"
        self._finish(outcome, now)

    def _schedule(self, ask: Ask, seconds: float) -> None:
        """Have another attempt follow after ``seconds``."""
        self._wake = ask.now + seconds
        self._elsewhere = ask.untried and ask.outcome.kind is Kind.UNSENT
        self.waits.append(seconds)
        self._emit(
            "retry.scheduled",
            attempt=ask.attempts,
            endpoint=self.endpoints[-1],
            delay=seconds,
            reason=ask.outcome.reason,
        )

    def _ask(self, outcome: Outcome, now: float, *, elsewhere: bool) -> Ask:
        sendable = self.exchange.replayable()
        tried = {endpoint.address for endpoint in self.endpoints}
        fn, args, kwargs = self.exchange.function
        return Ask(
            outcome=outcome,
            attempts=len(self.endpoints),
            untried=elsewhere and any(cell.endpoint.address not in tried for cell in self.view.picker.cells),
            safe=sendable and self.exchange.idempotent,
            sendable=sendable,
            began=self.began,
            now=now,
            deadline=self.deadline,
            waited=sum(self.waits),
            fn=fn,
            args=args,
            kwargs=kwargs,
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def _over(self, now: float) -> Effect | None:
        """End a call that can have no further attempt: what it was made with has been closed, or its time is up."""
        if self.view.runtime.closed:
            return self._nobody(now, breakers=False)
        cut = self.exchange.cut_off()
        if cut is not None:
            self._lay_aside(self._last)
            self._reason = cut.reason
            self._finish(cut, now)
            return self.poll(now)
        return self._spent(now) if now >= self.deadline else None

    def _spent(self, now: float) -> Effect:
        """The time is used up before an attempt could be made: the last real error says more than ours."""
        if self._last is not None:
            self._reason = "deadline"
            return self._finish(self._last, now)
        return self._reject(refusal.out_of_time(self.view.cluster, now - self.began), "deadline", now)

    def _reject(self, error: SvcmeshError, reason: str, now: float) -> Effect:
        """End the call with an error of ours, in the form that callers of this transport catch."""
        self._reason, after = reason, error.retry_after
        self._emit("call.rejected", reason=reason, retry_after=after)
        kind = Kind.DEADLINE if isinstance(error, DeadlineExceeded) else Kind.REJECTED
        return self._finish(Outcome(kind, self.exchange.refusal(error), reason=reason, retry_after=after), now)

    def _finish(self, outcome: Outcome, now: float) -> Effect:
        self._result = outcome
        seconds = now - self.began
        own = self.deadline >= self.began + self.view.total  # the policy's timeout, and no shorter one of the caller
        self._gate.settle(outcome, now, seconds, late=own and bool(self.endpoints))
        if outcome.error is not None:
            attach(outcome.error, self.story(outcome, now))
        elif outcome.value is not None and self.exchange.function[0] is None:
            attach(outcome.value, self.story(outcome, now))  # an answer; what a function returns is its caller's own
        self._emit("call.finished", attempts=len(self.endpoints), seconds=seconds, outcome=outcome.kind.value)
        return Done(outcome)

    def story(self, outcome: Outcome, now: float, reason: str | None = None) -> CallInfo:
        """Return what callers are told of the call, which ended in ``outcome``; ``reason`` where it is not ours."""
        endpoints, why = tuple(e for e in self.endpoints if e is not PICKED), reason or self._reason
        return CallInfo(len(self.endpoints), endpoints, tuple(self.waits), why, now - self.began, outcome.retry_after)

    def _emit(self, name: str, **fields: Any) -> None:
        self.view.runtime.events.emit(name, self.view.cluster.name, **fields)


def _ran_out(attempt: Attempt, now: float) -> bool:
    """Whether an attempt that timed out had used up its time; a library's own, shorter timeout leaves some of it."""
    return attempt.until < NEVER and now >= attempt.until - _EARLY * (attempt.until - attempt.started)
