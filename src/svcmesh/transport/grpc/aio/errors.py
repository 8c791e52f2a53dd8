"""Our own errors in the form that callers of ``grpc.aio`` catch: still ours, and also an ``AioRpcError``."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints, SvcmeshError
from svcmesh.transport.grpc.aio.leg import value_of
from svcmesh.transport.grpc.errors import code_of, translated

CLOSED = "Channel is closed."
"""What the stock asyncio channel says in its UsageError."""


class EndedAioCall(SvcmeshError, grpc.aio.AioRpcError):
    """A refused call as an exception of ``grpc.aio``, with the code that fits and no metadata."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        code = code_of(self)
        grpc.aio.AioRpcError.__init__(
            self,
            code,
            initial_metadata=grpc.aio.Metadata(),
            trailing_metadata=grpc.aio.Metadata(),
            details=message,
            debug_error_string=f"{code.name}:{message}",
        )
        self.args = (message,)
        if retry_after is not None:
            self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the message; whatever was attached comes along, metadata being empty anew."""
        kept = {key: value for key, value in self.__dict__.items() if not key.endswith("_metadata")}
        return _rebuild, (type(self), self.details() or "", kept)


def _rebuild(cls: type[EndedAioCall], message: str, state: dict[str, Any]) -> EndedAioCall:
    error = cls(message)
    error.__dict__.update(state)
    return error


class AioNoEndpoints(EndedAioCall, NoEndpoints):
    """`NoEndpoints` for callers of an asyncio channel."""


class AioCircuitOpen(EndedAioCall, CircuitOpen):
    """`CircuitOpen` for callers of an asyncio channel."""


class AioLimitExceeded(EndedAioCall, LimitExceeded):
    """`LimitExceeded` for callers of an asyncio channel."""


class AioDeadlineExceeded(EndedAioCall, DeadlineExceeded):
    """`DeadlineExceeded` for callers of an asyncio channel."""


class AioRefused(EndedAioCall):
    """Any other error of ours for callers of an asyncio channel."""


_AIO: tuple[tuple[type[SvcmeshError], type[SvcmeshError]], ...] = (
    (NoEndpoints, AioNoEndpoints),
    (CircuitOpen, AioCircuitOpen),
    (LimitExceeded, AioLimitExceeded),
    (DeadlineExceeded, AioDeadlineExceeded),
    (SvcmeshError, AioRefused),
)


def refusal(error: SvcmeshError) -> SvcmeshError:
    """Return ``error`` as an object that is also an ``AioRpcError``."""
    return translated(error, _AIO)


def anew(error: BaseException) -> BaseException:
    """Return what is raised where a call is awaited that ended with ``error``: of a status, each time a new one.

    As of a stock call. One that is kept would get a longer traceback with every await, and refer to the call by that.
    """
    if type(error) is not grpc.aio.AioRpcError:
        return error
    fresh: BaseException = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.__cause__ = error.__cause__
    return fresh


def of_ended(stock: Any) -> grpc.aio.AioRpcError:
    """Return the error of a stock call that has ended; raises what somebody's interceptor put in its place."""
    return grpc.aio.AioRpcError(
        value_of(stock.code()),
        value_of(stock.initial_metadata()),
        value_of(stock.trailing_metadata()),
        details=value_of(stock.details()),
        debug_error_string=value_of(stock.debug_error_string()),
    )


def aborted(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """Return the error of an RPC that an injected fault ended."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, empty, empty, details=details, debug_error_string=f"{code.name}:{details}")
