"""What a transport gives the call machine for one logical call, and what the machine gives back: attempts.

The machine decides, a driver performs, and an exchange is where both meet gRPC, HTTP or a plain function. A
transport builds one only when a call is no plain success, so it may be as rich as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.policy.fault import Abort


@dataclass(slots=True, eq=False)
class Attempt:
    """One physical try.

    Attributes:
        number: from 1.
        member: whom it goes to.
        started: when. until: when it must have ended, on the mesh's clock; infinite where nothing limits it.
        final: ``until`` is the end of the whole call, so that its timeout is nobody's fault.
        permits: what the endpoint's breakers gave, each to be settled once.
    """

    number: int
    member: Member
    started: float
    until: float
    final: bool = False
    permits: tuple[tuple[Any, int], ...] = field(default=())


class Exchange(Protocol):
    """One logical call as its transport knows it.

    Attributes:
        idempotent: it may be repeated although it may have been executed.
        deferred: whatever value an attempt ends with stays in flight (a stream); the transport then counts
            ``member.finished`` itself, exactly once.
        patient: without endpoints it waits for some until its deadline (gRPC's wait_for_ready).
        key: hash of what it is about, for pickers with affinity; None: any endpoint will do.
    """

    @property
    def key(self) -> int | None:
        """What is it about?"""

    @property
    def idempotent(self) -> bool:
        """May it be repeated although it may have been executed?"""

    @property
    def deferred(self) -> bool:
        """Does a value stay in flight after the attempt has ended?"""

    @property
    def unsent(self) -> bool:
        """Has the attempt that was just cut off surely sent nothing, because it was still connecting?"""

    @property
    def patient(self) -> bool:
        """Does it wait for endpoints where there are none?"""

    @property
    def method(self) -> str:
        """What is called, for faults to match: ``/pkg.Service/Method``, ``GET /path``, a function's name."""

    @property
    def function(self) -> tuple[Callable[..., Any] | None, tuple[Any, ...], dict[str, Any]]:
        """The function that is called, with its arguments, for tenacity's strategies to look at; or (None, (), {})."""

    def replayable(self) -> bool:
        """Can the request be sent once more? Asked only after a failure."""

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
