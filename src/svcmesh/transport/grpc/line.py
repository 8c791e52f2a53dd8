"""What all calls of one method through one mesh channel have in common, and how a single one looks to the machine."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Protocol

import grpc

from svcmesh.core.deadline import ambient_on
from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.member import NEVER, Member
from svcmesh.engine.view import View
from svcmesh.policy.fault import Abort
from svcmesh.transport.grpc import errors as grpc_errors
from svcmesh.transport.grpc import outcome as grpc_outcome
from svcmesh.transport.grpc.method import REGISTERED, Method, option_says_idempotent

CLOSED_MEANWHILE = "Channel closed!"
"""What the stock channel tells a call that it is closed under."""

WIRE_LIMIT = 3.0e8
"""Seconds; a longer timeout than these ten years overflows gRPC's timestamps, so it is sent as none."""


class Channels(Protocol):
    """Where the stock multicallables of a line come from.

    Attributes:
        closing: no call can begin any more. closed: nor any attempt of one.
        single_threaded: streams run on the thread that iterates over them.
        pins: calls to be kept alive until they are over.
    """

    closing: bool
    closed: bool
    single_threaded: bool
    pins: set[Any]

    def channel(self, member: Member) -> Any:
        """Return what has the multicallables for ``member``; raises ValueError when it is closed."""

    def unconnected(self, member: Member, details: str, *, patient: bool) -> bool:
        """Whether gRPC says by ``details`` that it could not connect to ``member``; ``patient``: or only sounds so."""

    def refuse_closed(self) -> None:
        """Raise the ValueError of the stock channel when it is closed."""


class Line:
    """One method of one service, as one mesh channel calls it under one policy.

    Attributes:
        now: the clock of the mesh. total: seconds that a plain call has. limit: those that its attempt has, for gRPC.
    """

    __slots__ = (
        *("_carrying", "_idempotent", "_successor"),
        *("dialer", "limit", "method", "name", "now", "total", "view"),
    )

    def __init__(self, view: View, dialer: Channels, method: Method) -> None:
        self.view = view
        self.dialer = dialer
        self.method = method
        self.name = method.name
        self.now = view.clock.now
        self.total = view.total
        self.limit = wire_timeout(view.limit)
        self._idempotent: bool | None = None
        self._carrying: Line | None = None
        self._successor: Line | None = None

    @property
    def current(self) -> Line:
        """The line of calls that begin now: this one, unless discovery has sent another policy since it was made."""
        view, successor = self.view.current, self._successor
        if view is self.view:
            return self
        if successor is None or successor.view is not view:
            # Whether reports are read is settled when a method is bound, see `svcmesh.transport.grpc.reports`.
            method = self.method if view.reported == self.view.reported else copy(self.method)
            successor = self._successor = Line(view, self.dialer, method)
        return successor

    @property
    def carrying(self) -> Line:
        """This line for requests that outlive their caller's."""
        line = self._carrying
        if line is None:
            line = self._carrying = Line(self.view, self.dialer, self.method.carrying())
        return line

    @property
    def idempotent(self) -> bool:
        """Whether calls may be repeated although they may have been executed; asked only after a failure."""
        if self._idempotent is None:
            listed = self.view.policy.is_idempotent(self.name)
            self._idempotent = listed or option_says_idempotent(self.name, self.method.serializer)
        return self._idempotent

    def stock(self, member: Member) -> Any:
        """Return the stock multicallable for ``member``.

        Raises:
            ValueError: the mesh channel is closed.
        """
        return self.dialer.channel(member).bound(self.method)


class Multicallable:
    """A method of a channel, whatever its kind: calling it makes calls along its line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def _registered_call_handle(self) -> int | None:
        """What gRPC's generated code finds under this name: some number for registered methods, else None."""
        return REGISTERED if self._line.method.registered else None


class GrpcExchange:
    """One logical gRPC call, for the machine; subclasses add how an attempt is made.

    Attributes:
        asked: whom the attempt went to whose error is to be classified; None where there was no channel yet.
    """

    asked: Member | None = None

    deferred = False
    unsent = False  # gRPC tells by itself
    lookup = NEVER
    function: tuple[Callable[..., Any] | None, tuple[Any, ...], dict[str, Any]] = (None, (), {})

    def __init__(self, line: Line, patient: bool, key: int | None = None) -> None:
        self.line = line
        self.key = key
        self.method = line.name
        self.patient = patient

    @property
    def idempotent(self) -> bool:
        """What the policy or the .proto says of the method."""
        return self.line.idempotent

    def replayable(self) -> bool:
        """A single request can always be sent again, unless the channel was closed meanwhile."""
        return not self.line.dialer.closed

    def cut_off(self) -> Outcome | None:
        """End as a stock call does whose channel is closed while it is under way."""
        if not self.line.dialer.closed:
            return None
        return Outcome(Kind.CANCELLED, self._status_error(grpc.StatusCode.CANCELLED, CLOSED_MEANWHILE), reason="closed")

    def classify(self, error: BaseException, *, answered: bool | None = None) -> Outcome:
        """Read the error; see `grpc_outcome.classify`."""
        return grpc_outcome.classify(error, answered=answered, unconnected=self._unconnected)

    def _unconnected(self, details: str) -> bool:
        asked, dialer = self.asked, self.line.dialer
        return asked is not None and dialer.unconnected(asked, details, patient=self.patient)

    def refusal(self, error: SvcmeshError) -> BaseException:
        """Return ours as an ``RpcError`` that is also a ``Call``."""
        return grpc_errors.refusal(error)

    def aborted(self, abort: Abort) -> Outcome:
        """Return the status that the fault asks for, as if a server had sent it."""
        code = grpc.StatusCode[abort.grpc_code]
        details = "injected fault"
        return grpc_outcome.of_status(self._status_error(code, details), code, details)

    def discard(self, outcome: Outcome) -> None:
        """A response that is not wanted needs no release."""

    def _status_error(self, code: grpc.StatusCode, details: str) -> BaseException:
        return grpc_errors.GrpcAborted(code, details)


def wire_timeout(seconds: float) -> float | None:
    """Return ``seconds`` as gRPC takes them; None for no timeout."""
    return seconds if seconds < WIRE_LIMIT else None


def wire_end(line: Line, timeout: float | None, deadline: float) -> float:
    """Return the deadline that the server learns: a stream may outlive the policy's timeout, not the caller's."""
    if timeout is not None or line.view.policy.timeout_ends_streams or not line.method.streams_responses:
        return deadline
    ambient = ambient_on(line.view.clock)
    return NEVER if ambient is None else ambient


def frozen(metadata: Any) -> Any:
    """Return metadata that can be sent twice: what came as an iterator would be empty at the second attempt.

    What is false (0, False) counts as none, as in gRPC.
    """
    return metadata if metadata is None or isinstance(metadata, tuple) else tuple(metadata or ())
