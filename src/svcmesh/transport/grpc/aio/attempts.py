"""What the machine has an asyncio call do: start another attempt, and say what its errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grpc
import grpc.aio

from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.exchange import Attempt
from svcmesh.transport.grpc.aio import errors as grpc_aio_errors
from svcmesh.transport.grpc.aio.errors import CLOSED
from svcmesh.transport.grpc.aio.leg import AioLeg
from svcmesh.transport.grpc.leg import Account, Report
from svcmesh.transport.grpc.line import GrpcExchange, Line
from svcmesh.transport.grpc.outcome import ENDPOINT_GONE
from svcmesh.transport.grpc.request import Request


class Course(Protocol):
    """The call as far as its further attempts need it."""

    request: Request

    def dial(self, account: Account, until: float) -> AioLeg:
        """Start an attempt that has to end, or a stream to begin, by ``until``."""


class AioAttempts(GrpcExchange):
    """The exchange of an asyncio call; ``course`` returns the call, None when nobody wants to know of it any more."""

    def __init__(self, line: Line, course: Callable[[], Course | None], patient: bool, key: int | None) -> None:
        super().__init__(line, patient, key)
        self.deferred = line.method.streams_responses
        self._course = course

    def replayable(self) -> bool:
        """Whether the request can be sent again, by somebody who still wants to know."""
        course = self._course()
        return course is not None and course.request.replayable and super().replayable()

    def classify(self, error: BaseException, *, answered: bool | None = None) -> Outcome:
        """Read the error; a channel that was closed under us, because its endpoint left, means another pick."""
        if isinstance(error, grpc.aio.UsageError) and str(error) == CLOSED:
            return Outcome(Kind.UNSENT, error, reason=ENDPOINT_GONE)
        return super().classify(error, answered=answered)

    def refusal(self, error: SvcmeshError) -> BaseException:
        """Return ours as an ``AioRpcError``."""
        return grpc_aio_errors.refusal(error)

    def start(self, attempt: Attempt, ended: Report) -> Callable[[], object]:
        """Start an attempt; its end, or its failure to start, goes to ``ended``."""
        course = self._course()
        if course is None:
            ended(Outcome(Kind.CANCELLED))
            return _nothing
        account = Account(self.line.view, attempt.member, attempt.started, ended, attempt)
        try:
            stock = course.dial(account, attempt.until).stock
        except Exception as error:  # noqa: BLE001 - whatever it is, `classify` knows what it means
            ended(self.classify(error))
            return _nothing
        cancel: Callable[[], object] = stock.cancel
        return cancel

    def _status_error(self, code: grpc.StatusCode, details: str) -> BaseException:
        return grpc_aio_errors.aborted(code, details)


def _nothing() -> None:
    """Nothing to cancel."""
