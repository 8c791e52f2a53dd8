"""What a transport gives the call machine for one logical call, and what the machine gives back: attempts.

The machine decides, a driver performs, and an exchange is where both meet gRPC, HTTP or a plain function. A
transport builds one only when a call is no plain success, so it may be as rich as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member, Permits
from svcmesh.policy.fault import Abort


@dataclass(slots=True, eq=False)
class Attempt:
    """One physical try.

    Attributes:
        number: from 1.
        member: where it goes.
        started: instant of its start. until: instant by which it must have ended; infinite where nothing limits it.
        final: ``until`` is the deadline of the whole call, so that running into it is not the endpoint's fault.
        permits: what the endpoint's breakers gave, each to be settled once.
    """

    number: int
    member: Member
    started: float
    until: float
    final: bool = False
    permits: Permits = ()


class Exchange(Protocol):
    """One logical call as its transport knows it."""

    @property
    def key(self) -> int | None:
        """The hash of what it is about, for pickers with affinity; None: any endpoint will do."""

    @property
    def idempotent(self) -> bool:
        """Whether it may be repeated although it may have been executed."""

    @property
    def deferred(self) -> bool:
        """Whether the value of an attempt stays in flight after the attempt has ended, as a stream does.

        Its transport then owes ``member.finished += 1``, exactly once.
        """

    @property
    def unsent(self) -> bool:
        """Whether the attempt that was just cut off surely sent nothing, because it was still connecting."""

    @property
    def patient(self) -> bool:
        """Whether it waits until its deadline where there are no endpoints (gRPC's wait_for_ready)."""

    @property
    def lookup(self) -> float:
        """Seconds that it waits where discovery has not said anything yet; infinite: until its deadline."""

    @property
    def method(self) -> str:
        """What is called, for faults to match: ``/pkg.Service/Method``, ``GET /path``, a function's name."""

    @property
    def function(self) -> tuple[Callable[..., Any] | None, tuple[Any, ...], dict[str, Any]]:
        """The function that is called, with its arguments, for tenacity's strategies to look at; or (None, (), {})."""

    def replayable(self) -> bool:
        """Return whether the request can be sent once more; asked only after a failure."""

    def cut_off(self) -> Outcome | None:
        """Return how the call ends because what it was made with has been closed; None: it goes on.

        Asked before each attempt and wait. Whoever closes wakes the cluster (`Cluster.wake`).
        """

    def classify(self, error: Exception) -> Outcome:
        """Say what an error of this transport means."""

    def refusal(self, error: SvcmeshError) -> BaseException:
        """Return an error of ours as callers of this transport expect it: the same one, or one that is also theirs."""

    def aborted(self, abort: Abort) -> Outcome:
        """Return how an injected abort looks here."""


class BlockingExchange(Exchange, Protocol):
    """An exchange whose attempts block the caller's thread."""

    def send(self, attempt: Attempt) -> Any:
        """Perform the attempt; return its value, or raise."""

    def discard(self, outcome: Outcome) -> None:
        """Release an answer that nobody will see."""


class AwaitingExchange(Exchange, Protocol):
    """An exchange whose attempts are awaited."""

    async def send(self, attempt: Attempt) -> Any:
        """Perform the attempt; return its value, or raise."""

    async def discard(self, outcome: Outcome) -> None:
        """Release an answer that nobody will see."""


class CallbackExchange(Exchange, Protocol):
    """An exchange whose attempts run by themselves and report their end."""

    def start(self, attempt: Attempt, ended: Callable[[Outcome], None]) -> Callable[[], object]:
        """Start the attempt; call ``ended`` once, from any thread, possibly before returning. Return its cancel."""

    def discard(self, outcome: Outcome) -> None:
        """Release an answer that nobody will see."""


class Answer(Exception):
    """Raised by ``send`` where an attempt ended in an outcome that policies must look at: a 503, say."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def outcome_of(exchange: Exchange, error: Exception) -> Outcome:
    """Return how an attempt ended whose ``send`` raised ``error``."""
    return error.outcome if isinstance(error, Answer) else exchange.classify(error)
