"""What svcmesh raises, and only where it refused: the caller's own errors always come through unchanged.

Callers of gRPC catch ``grpc.RpcError`` and callers of httpx ``httpx.TransportError``; the transports raise
subclasses that are both. Those live beside their transport, so that this module loads neither library.
"""

from __future__ import annotations

from typing import Any


class SvcmeshError(Exception):
    """Base of all errors of svcmesh.

    ``retry_after`` is the number of seconds after which another call may succeed, or None when unknown.
    Errors can be pickled.
    """

    retry_after: float | None = None

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the message, then restore what was attached (BaseException's way loses keywords)."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class NoEndpoints(SvcmeshError):
    """There is no endpoint that the call could go to: none known, or none usable."""


class CircuitOpen(SvcmeshError):
    """A circuit breaker is open, so the call was not made."""


class LimitExceeded(SvcmeshError):
    """A limit of ours (concurrency, rate, throttle) refused the call."""


class DeadlineExceeded(SvcmeshError, TimeoutError):
    """The time that the call had is used up."""


class ConfigError(SvcmeshError, ValueError):
    """A setting is wrong; the message names the field, the value and what would be right."""


class DiscoveryError(SvcmeshError):
    """A registry could not be asked, or its answer could not be understood."""


class FaultInjected(SvcmeshError):
    """A fault that was put in on purpose aborted a plain function call; ``status`` is the status it stands for."""

    status: int | str | None = None


def _rebuild(cls: type[SvcmeshError], args: tuple[Any, ...], state: dict[str, Any]) -> SvcmeshError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
