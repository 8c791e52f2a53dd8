"""Whether another attempt is worth making, safe to make and paid for, and how long to wait before it.

A retry that repeats a payment, outlives its deadline or joins a storm does more harm than the error it hides. So the
questions come in a fixed order, the cheap and final ones first, and money changes hands last: a retry that does not
happen for another reason costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import tenacity

from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy import strategy
from svcmesh.policy.backoff import Backoff, FullJitter
from svcmesh.policy.budget import Budget, RetryBudget
from svcmesh.policy.condition import DEFAULT_ON, Condition, check_on, compile_on
from svcmesh.policy.status import is_plain
from svcmesh.policy.strategy import Ended, RetryStrategy, State, StopStrategy, WaitStrategy


class _Unasked(int):
    """A number of attempts that nobody asked for, so that a tenacity ``stop`` alone may decide instead."""


_THREE = _Unasked(3)
_FINAL = frozenset({Kind.CANCELLED, Kind.DEADLINE, Kind.REJECTED})
_BACKOFF = FullJitter()
_BUDGET = RetryBudget()


@dataclass(slots=True)
class Ask:
    """What `Retry.decide` is asked about: the state of one call after an attempt has ended.

    Attributes:
        outcome: how the attempt ended.
        attempts: attempts made so far, at least 1.
        untried: there are endpoints that this call has not been sent to.
        safe: it may be repeated although it may have been executed (idempotent), and can be sent again.
        sendable: the request can be sent again at all.
        began: instant at which the call began.
        now: the current instant.
        deadline: instant by which the call must have ended, or None.
        waited: seconds waited before earlier retries; for tenacity's ``idle_for``.
        fn, args, kwargs: the function called, where there is one; for tenacity's strategies.
    """

    outcome: Outcome
    attempts: int
    untried: bool
    safe: bool
    sendable: bool
    began: float
    now: float
    deadline: float | None
    waited: float = 0.0
    fn: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """Make another attempt after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Let the outcome stand. ``reason`` is one of the words in `Retry.decide`."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a call is attempted again.

    Args:
        max_attempts: attempts in all, the first included, at least 1; default 3. When ``stop`` is given and this is
            not, ``stop`` alone decides.
        on: what to repeat: a collection of words (``connect-failure``, ``reset``, ``refused-stream``,
            ``per-try-timeout``, ``rate-limited`` for a 429 with Retry-After), HTTP statuses, upper-case gRPC codes
            and exception classes, or a function of an `Outcome`. Default: all five words, 502, 503, 504, UNAVAILABLE.
            A status that is no failure by itself (404) is one for this, and blames nobody; a function is asked of
            failures only.
        stop: a tenacity stop strategy, or a function of its state, that ends the attempts as well.
        wait: a `FullJitter`, a `GrpcBackoff`, a tenacity wait strategy, or a function of its state that returns
            seconds. Default: full jitter of 25 ms to 250 ms. tenacity's draw from Python's own random numbers.
        retry: a tenacity retry strategy, or a function of its state; it replaces ``on``.
        budget: what retries may cost the service; None for no limit, which invites retry storms.
        buffer_response: bytes up to which the answer to an idempotent HTTP request is read inside the attempt, so
            that a cut one is repeated; at least 0; default 64 KiB.
        previous_priorities: after so many attempts, and each time so many more, the priorities met until then are left
            out, so that the next attempt goes to another one; at least 1; None (default): priorities share retries as
            they share calls. Envoy calls it the ``update_frequency`` of ``previous_priorities``.

    Further attempts go to endpoints not tried yet, of whatever priority, before any is tried again. A request that was
    surely not sent goes to one whatever these say.

    Raises:
        ConfigError: a value out of range, an unknown condition, a strategy of the wrong kind.

    Threads: any; it holds no state.
    Source: gRFC A6, Envoy's retry policy, tenacity.
    """

    max_attempts: int = _THREE
    on: Collection[Condition] | Callable[[Outcome], bool] = DEFAULT_ON
    stop: StopStrategy | None = None
    wait: WaitStrategy | Backoff | None = None
    retry: RetryStrategy | None = None
    budget: RetryBudget | None = _BUDGET
    buffer_response: int = 65536
    previous_priorities: int | None = None
    wants_results: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether ``retry`` looks at results, so that it has to be asked after a success too."""
    plain: frozenset[int] = field(init=False, repr=False, compare=False, default=frozenset())
    """The statuses in ``on`` of HTTP answers that no policy looks at otherwise, such as 404."""
    _meets: Callable[[Outcome], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every field, and make what decisions read."""
        checks.whole("max_attempts", self.max_attempts, 1)
        checks.whole("buffer_response", self.buffer_response, 0)
        if self.previous_priorities is not None:
            checks.whole("previous_priorities", self.previous_priorities, 1)
        checks.optional("budget", self.budget, RetryBudget)
        for kind, given in (("stop", self.stop), ("wait", self.wait), ("retry", self.retry)):
            if given is not None and not (kind == "wait" and isinstance(given, Backoff)):
                strategy.check(kind, given)
        if callable(self.on) and not isinstance(self.on, type | Collection):
            meets = self.on
        else:
            conditions = check_on(self.on)
            object.__setattr__(self, "on", conditions)
            meets = compile_on(conditions)
            if self.retry is None:
                plain = frozenset(one for one in conditions if isinstance(one, int) and is_plain(one))
                object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "_meets", meets)
        object.__setattr__(self, "wants_results", self.retry is not None and strategy.wants_results(self.retry))

    def matches(self, outcome: Outcome, state: State | None = None) -> bool:
        """Return whether ``outcome`` is worth another attempt, safe or not. ``state`` is for tenacity's strategies."""
        if isinstance(outcome.error, tenacity.TryAgain):
            return True
        if self.retry is None:
            return outcome.kind is not Kind.SUCCESS and self._meets(outcome)
        return bool(strategy.ask(self.retry, state or State(self, Ended(outcome, 1))))

    def state(self, ask: Ask) -> State:
        """Return what tenacity's strategies are shown of ``ask``."""
        return State(
            retry_object=self,
            outcome=Ended(ask.outcome, ask.attempts),
            attempt_number=ask.attempts,
            start_time=ask.began,
            outcome_timestamp=ask.now,
            idle_for=ask.waited,
            fn=ask.fn,
            args=ask.args,
            kwargs=ask.kwargs,
        )

    def decide(self, ask: Ask, budget: Budget | None, rng: Rng) -> Again | Stop:
        """Say whether to make another attempt, and after how many seconds.

        A request that was surely not sent goes on at once while there are endpoints it has not been to: that can
        harm nobody, so neither attempts nor budget are counted for it. All else has to pass, in this order:

        - ``not-retryable``: ``on`` or ``retry`` do not want it, or it was cancelled, refused by us or out of time;
        - ``body`` and ``not-idempotent``: it cannot, or must not, be sent again;
        - ``attempts`` and ``stop``: `max_attempts` or the stop strategy end it;
        - ``pushback``: the other side asked not to be asked again;
        - ``deadline``: the wait would reach the deadline, so the error that is here is worth more than a later one;
        - ``budget``: there is no token left; nothing else takes one.

        A strategy or condition that raises stops the attempts (``strategy: KeyError``), and the caller gets the
        error of the attempt, not that of a predicate.
        """
        if ask.outcome.kind in _FINAL:
            return Stop("not-retryable")
        if ask.outcome.kind is Kind.UNSENT and ask.untried:
            return _elsewhere(ask)
        try:
            verdict = self._judge(ask, rng)
        except Exception as error:  # noqa: BLE001 - the caller's own code; its error must not hide the call's
            return Stop(f"strategy: {type(error).__name__}")
        if budget is None or self.budget is None or isinstance(verdict, Stop) or budget.try_withdraw(ask.now):
            return verdict
        return Stop("budget")

    def _judge(self, ask: Ask, rng: Rng) -> Again | Stop:
        """Everything but the budget."""
        state = self.state(ask)
        if not self.matches(ask.outcome, state):
            return Stop("not-retryable")
        refused = _unsafe(ask) or self._exhausted(ask)
        if refused is not None:
            return refused
        state.upcoming_sleep = seconds = self._wait(ask, state, rng)
        if self.stop is not None and strategy.ask(self.stop, state):
            return Stop("stop")
        pushback = ask.outcome.retry_after
        if pushback is not None and pushback < 0:
            return Stop("pushback")
        seconds = max(seconds, pushback or 0.0)
        if ask.deadline is not None and ask.now + seconds >= ask.deadline:
            return Stop("deadline")
        return Again(seconds)

    def _exhausted(self, ask: Ask) -> Stop | None:
        if self.stop is not None and isinstance(self.max_attempts, _Unasked):
            return None
        return Stop("attempts") if ask.attempts >= self.max_attempts else None

    def _wait(self, ask: Ask, state: State, rng: Rng) -> float:
        wait = _BACKOFF if self.wait is None else self.wait
        if isinstance(wait, Backoff):
            return wait.seconds(ask.attempts, rng)
        seconds = float(strategy.ask(wait, state))
        return seconds if seconds > 0 else 0.0  # a NaN too, which no clock could wait for


def _elsewhere(ask: Ask) -> Again | Stop:
    if not ask.sendable:
        return Stop("body")
    if ask.deadline is not None and ask.now >= ask.deadline:
        return Stop("deadline")
    return Again(0.0)


def _unsafe(ask: Ask) -> Stop | None:
    if not ask.sendable:
        return Stop("body")
    if not ask.safe and ask.outcome.kind is not Kind.UNSENT:
        return Stop("not-idempotent")
    return None
