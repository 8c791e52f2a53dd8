"""An attempt whose body is the caller's own block: for protocols that svcmesh does not speak.

svcmesh picks and counts, and learns how the block ended. It cannot run a block twice, so nothing is repeated.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from svcmesh.core import deadline
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine import awaiting, blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER
from svcmesh.engine.view import View
from svcmesh.policy.fault import Abort
from svcmesh.transport import plain_outcome
from svcmesh.transport.functions import abort_outcome


class Block:
    """One attempt, from the start of a ``with`` or ``async with`` block to its end. Use each object once at a time.

    Attributes:
        endpoint: whom to talk to; set while the block runs. `remaining` says how long it may take.

    Raises:
        NoEndpoints, CircuitOpen, DeadlineExceeded: on entering; what the block raises comes through unchanged.
    """

    endpoint: Endpoint
    idempotent = False
    deferred = False
    unsent = False
    patient = False
    lookup = NEVER
    method = ""
    function: tuple[None, tuple[Any, ...], dict[str, Any]] = (None, (), {})

    def __init__(self, view: View, key: int | None, keep: object = None) -> None:
        self._view = view
        self._keep = keep  # what must live as long as this does
        self.key = view.key_of(self) if key is None and view.hash_on else key
        self._call: Call | None = None
        self._attempt: Attempt | None = None
        self._budget: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> Self:
        """Wait for an endpoint, if there is none yet, and count an attempt at it as in flight."""
        call = self._begin()
        try:
            return self._enter(blocking.admit(call))
        except BaseException:
            self._call = None
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how the block ended."""
        self._end(error)

    async def __aenter__(self) -> Self:
        """Await an endpoint, if there is none yet, and count an attempt at it as in flight."""
        call = self._begin()
        try:
            return self._enter(await awaiting.admit(call))
        except BaseException:
            self._call = None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how the block ended."""
        self._end(error)

    def _begin(self) -> Call:
        if self._call is not None:
            raise RuntimeError("this attempt is under way; ask the service for another one")
        now = self._view.clock.now()
        self._call = Call(self._view, self, now, self._view.deadline(now), retries=False)
        return self._call

    def _enter(self, attempt: Attempt) -> Self:
        self._attempt = attempt
        self.endpoint = attempt.member.endpoint
        self._budget = deadline.at(self._view.clock, attempt.until)
        self._budget.__enter__()
        return self

    def _end(self, error: BaseException | None) -> None:
        call, attempt = self._call, self._attempt
        self._call = self._attempt = None
        if call is None or attempt is None:
            return
        self._budget.__exit__(None, None, None)
        now = self._view.clock.now()
        if error is None:
            call.ended(attempt, Outcome(Kind.SUCCESS), now)
        elif isinstance(error, Exception):
            call.ended(attempt, self.classify(error), now)
        else:  # cancelled or interrupted, which says nothing of the endpoint
            call.abandon(now)

    # -- what rules for a key find: nothing, since only the caller knows what the block is about ---------------------

    def headers(self, name: str) -> tuple[()]:
        """There are none."""
        return ()

    def query(self, name: str) -> None:
        """There is none."""

    def computed(self, fn: object) -> None:
        """There is nothing to compute it of."""

    # -- what the machine asks -------------------------------------------------------------------------------------

    def replayable(self) -> bool:
        """A block cannot be run again."""
        return False

    def cut_off(self) -> None:
        """A block cannot be closed."""

    def classify(self, error: Exception) -> Outcome:
        """Read the exception that left the block."""
        return plain_outcome.classify(error)

    def refusal(self, error: SvcmeshError) -> SvcmeshError:
        """Callers catch our errors as they are."""
        return error

    def aborted(self, abort: Abort) -> Outcome:
        """Raise what stands for the status."""
        return abort_outcome(abort, "an attempt")
