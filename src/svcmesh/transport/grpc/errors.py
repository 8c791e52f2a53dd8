"""Our own errors in the form that callers of gRPC catch: still ours, and also an ``RpcError`` with a code.

Callers write ``except grpc.RpcError as error: error.code()``. So what svcmesh refuses must answer every question that
a stock error answers; there was no RPC, hence no metadata. The code says what a caller may do: UNAVAILABLE where
trying again later may help (gRFC A32 has it for limits too), DEADLINE_EXCEEDED where the time was used up.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints, SvcmeshError
from svcmesh.core.info import attach, info


def code_of(error: SvcmeshError) -> grpc.StatusCode:
    """Return the status code that stands for an error of ours."""
    if isinstance(error, DeadlineExceeded):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if isinstance(error, NoEndpoints | CircuitOpen | LimitExceeded):
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INTERNAL


def _describe(error: Any) -> str:
    name, code, details = type(error).__name__, error.code(), error.details()
    return f'<{name} of RPC that terminated with:\n\tstatus = {code}\n\tdetails = "{details}"\n>'


class EndedCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs only
    """A call that is over before anything was sent, as an exception: all questions have an answer at once."""

    _code: grpc.StatusCode | None = None

    @classmethod
    def of(cls, error: BaseException) -> EndedCall:
        """Return the end of a call that ``error`` prevented; it is the cause of this one."""
        ended = cls(str(error))
        ended.__cause__ = error
        return ended

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        if self._code is not None:
            return self._code
        return code_of(self) if isinstance(self, SvcmeshError) else grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        """Return the message."""
        return str(self.args[0]) if self.args else ""

    def debug_error_string(self) -> str:
        """Return the same in gRPC's form."""
        return f"{self.code().name}:{self.details()}"

    def initial_metadata(self) -> tuple[Any, ...]:
        """Return nothing: no answer came."""
        return ()

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Return nothing: no answer came."""
        return ()

    def is_active(self) -> bool:
        """Return False."""
        return False

    def time_remaining(self) -> Any:
        """Return None: nothing is running."""
        return None

    def cancel(self) -> bool:
        """Return False: it is over."""
        return False

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def running(self) -> bool:
        """Return False."""
        return False

    def done(self) -> bool:
        """Return True."""
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Raise this error."""
        raise self

    def exception(self, timeout: float | None = None) -> Exception:
        """Return this error."""
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return where it was raised."""
        return self.__traceback__

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Return False: the callback will not be called."""
        return False

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call ``fn`` at once."""
        fn(self)

    def __str__(self) -> str:
        return _describe(self)

    __repr__ = __str__


class GrpcNoEndpoints(EndedCall, NoEndpoints):
    """`NoEndpoints` for callers of a sync channel."""


class GrpcCircuitOpen(EndedCall, CircuitOpen):
    """`CircuitOpen` for callers of a sync channel."""


class GrpcLimitExceeded(EndedCall, LimitExceeded):
    """`LimitExceeded` for callers of a sync channel."""


class GrpcDeadlineExceeded(EndedCall, DeadlineExceeded):
    """`DeadlineExceeded` for callers of a sync channel."""


class GrpcRefused(EndedCall, SvcmeshError):
    """Any other error of ours for callers of a sync channel."""


class GrpcAborted(EndedCall):
    """An RPC that an injected fault ended; looks like the status that it stands for."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from both arguments; whatever was attached comes along."""
        return type(self), (self.code(), self.details()), self.__dict__


class CancelledCall(EndedCall):
    """A call that was cancelled while no attempt was under way."""

    _code = grpc.StatusCode.CANCELLED

    def cancelled(self) -> bool:
        """Return True."""
        return True


def as_blocking(error: BaseException) -> BaseException:
    """Return the stock error of a call that did not block in the class that blocking calls raise.

    That class is private to gRPC, as what it is made of; where either is missing, and for errors of ours, ``error``.
    """
    made, state = getattr(getattr(grpc, "_channel", None), "_InactiveRpcError", None), getattr(error, "_state", None)
    if made is None or state is None:
        return error
    found: BaseException = made(state)
    story = info(error)
    if story is not None:
        attach(found, story)
    return found


_SYNC: tuple[tuple[type[SvcmeshError], type[SvcmeshError]], ...] = (
    (NoEndpoints, GrpcNoEndpoints),
    (CircuitOpen, GrpcCircuitOpen),
    (LimitExceeded, GrpcLimitExceeded),
    (DeadlineExceeded, GrpcDeadlineExceeded),
    (SvcmeshError, GrpcRefused),
)


def refusal(error: SvcmeshError) -> SvcmeshError:
    """Return ``error`` as an object that is also a sync ``grpc.RpcError``."""
    return translated(error, _SYNC)


def translated(error: SvcmeshError, table: tuple[tuple[type[SvcmeshError], type[SvcmeshError]], ...]) -> SvcmeshError:
    """Return ``error`` as the class that ``table`` has for it, with its cause and its time to wait."""
    cls = next(ours for base, ours in table if isinstance(error, base))
    found = cls(str(error.args[0]) if error.args else "", retry_after=error.retry_after)
    found.__cause__ = error.__cause__
    return found
