"""A service without a network: endpoints, a policy, virtual time, and exchanges whose attempts end as a test says."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, RESET, Kind, Outcome
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.effects import Discard, Done, Effect, Start, Wait
from svcmesh.engine.exchange import Answer, Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import Abort, Policy
from svcmesh.testing import FakeClock

A, B, C = (Endpoint(f"10.0.0.{n}:80") for n in (1, 2, 3))


class Stage:
    """One service under one policy, in virtual time and without a worker thread.

    Attributes:
        events: all that was emitted, once `listen` has been called.
    """

    def __init__(self, policy: Policy, endpoints: tuple[Endpoint, ...] = (A, B, C), *, seed: int = 1) -> None:
        self.clock = FakeClock()
        self.runtime = Runtime(self.clock, random.Random(seed))
        self.runtime.worker.close()  # nothing here needs its thread
        self.cluster = Cluster("service", self.runtime)
        self.events: list[Any] = []
        self.set(*endpoints)
        self.view = View(self.cluster, policy)

    def set(self, *endpoints: Endpoint) -> None:
        """Let discovery list these."""
        self.cluster.apply(Snapshot(endpoints, authoritative=True))

    def listen(self, *patterns: str) -> Stage:
        """Record events."""
        self.runtime.events.subscribe(self.events.append, *patterns)
        self.cluster.rebuild()
        return self

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def call(self, exchange: Exchange | None = None, timeout: float | None = None, **kwargs: Any) -> Call:
        """Begin a call now."""
        now = self.clock.now()
        return Call(self.view, exchange or Exchange(), now, self.view.deadline(now, timeout), **kwargs)

    def perform(self, *script: Any) -> Outcome:
        """Make a call whose attempts end in these."""
        exchange = Exchange(*script)
        return drive(self.call(exchange), exchange, self.clock)

    def goes_straight(self, now: float = 0.0) -> bool:
        """Make a plain call that ends at once; return whether it did without the machine."""
        member = self.view.enter(now)
        if member is not None:
            member.finished += 1
        return member is not None

    @property
    def in_flight(self) -> dict[str, int]:
        """Whoever has something in flight."""
        return {address: m.in_flight for address, m in self.cluster.members.items() if m.in_flight}

    def fail(self, endpoint: Endpoint, times: int) -> None:
        """Let attempts at ``endpoint`` fail with a reset, one after the other."""
        member = self.cluster.members[endpoint.address]
        for _ in range(times):
            member.started += 1
            now = self.clock.now()
            self.view.settle(member, self.view.breakers.admit(member, now) or (), lost(), now, 0.0)


class Exchange:
    """The transport's side of a call; ``script``: what attempts end in, outcomes or functions of the attempt."""

    patient = False
    lookup = NEVER
    key: int | None = None
    method = "method"

    def __init__(
        self,
        *script: Outcome | Callable[[Attempt], Outcome],
        idempotent: bool = True,
        deferred: bool = False,
        replayable: bool = True,
        function: Callable[..., Any] | None = None,
    ) -> None:
        self.script = list(script)
        self.idempotent = idempotent
        self.deferred = deferred
        self.unsent = False
        self.function = (function, (), {})
        self.discarded: list[Outcome] = []
        self.attempts: list[Attempt] = []
        self.closed: Outcome | None = None
        self._replayable = replayable

    def replayable(self) -> bool:
        return self._replayable

    def cut_off(self) -> Outcome | None:
        return self.closed

    def classify(self, error: Exception) -> Outcome:
        return Outcome(Kind.ERROR, error, reason=type(error).__name__)

    def refusal(self, error: Exception) -> Exception:
        return error

    def aborted(self, abort: Abort) -> Outcome:
        return Outcome(Kind.STATUS, RuntimeError("aborted"), reason=str(abort.status), blames=True)

    def end(self, attempt: Attempt) -> Outcome:
        """Return how the next attempt ends; success when the script is over."""
        self.attempts.append(attempt)
        step: Any = self.script.pop(0) if self.script else success()
        outcome: Outcome = step(attempt) if callable(step) else step
        return outcome

    def discard(self, outcome: Outcome) -> None:
        self.discarded.append(outcome)
        self.release(outcome)

    def release(self, outcome: Outcome) -> None:
        """Count the end of an answer that stayed in flight, as a transport does."""
        if self.deferred and outcome.value is not None:
            outcome.value.finished += 1


class Blocking(Exchange):
    """Its attempts block."""

    def send(self, attempt: Attempt) -> Any:
        return told(self.end(attempt))


class Awaiting(Exchange):
    """Its attempts are awaited; ``before`` is what they await first."""

    before: Callable[[Attempt], Any] | None = None

    async def send(self, attempt: Attempt) -> Any:
        if self.before is not None:
            await self.before(attempt)
        return told(self.end(attempt))

    async def discard(self, outcome: Outcome) -> None:  # type: ignore[override]
        super().discard(outcome)


def told(outcome: Outcome) -> Any:
    """Return or raise an outcome, as ``send`` does."""
    if outcome.kind is Kind.SUCCESS:
        return outcome.value
    raise Answer(outcome)


def drive(call: Call, exchange: Exchange, clock: FakeClock) -> Outcome:
    """Perform ``call`` to its end, in virtual time."""
    while True:
        effect: Effect = call.poll(clock.now())
        if isinstance(effect, Start):
            call.ended(effect.attempt, exchange.end(effect.attempt), clock.now())
        elif isinstance(effect, Wait):
            assert effect.until < NEVER, "it waits for ever"
            clock.advance(max(0.0, effect.until - clock.now()))
        elif isinstance(effect, Discard):
            exchange.discard(effect.outcome)
        elif isinstance(effect, Done):
            return effect.outcome


def success(value: Any = None) -> Outcome:
    return Outcome(Kind.SUCCESS, value=value)


def unsent() -> Outcome:
    return Outcome(Kind.UNSENT, ConnectionRefusedError("nobody there"), reason=CONNECT_FAILURE, blames=True)


def lost() -> Outcome:
    return Outcome(Kind.LOST, ConnectionResetError("cut"), reason=RESET, blames=True)


def late() -> Outcome:
    return Outcome(Kind.TIMEOUT, TimeoutError("late"), reason=PER_TRY_TIMEOUT, blames=True)


def status(code: str = "503") -> Outcome:
    return Outcome(Kind.STATUS, RuntimeError(code), reason=code, blames=code == "503")


def error() -> Outcome:
    return Outcome(Kind.ERROR, KeyError("own"), reason="KeyError")


def ended(view: View, outcome: Any) -> None:
    """Let one attempt at the only endpoint end so."""
    (member,) = view.cluster.members.values()
    member.started += 1
    view.settle(member, (), outcome, view.clock.now(), 0.0)


def turn(runtime: Runtime) -> None:
    """Wait until the worker has done what it was asked so far, and what that asked for in turn."""
    for _ in range(3):
        done = threading.Event()
        runtime.worker.call(lambda _, done=done: done.set())  # type: ignore[misc]
        assert done.wait(30)
