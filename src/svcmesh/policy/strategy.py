"""tenacity's strategies as vocabulary: what they may look at, what they must be, what they want to see.

People know ``stop_after_delay(5) | stop_after_attempt(3)``; tenacity's engine, which makes a future with a lock for
each attempt and shares statistics between threads, is not needed for it. A strategy is a callable that reads
attributes of a state, so a small state of our own, made only when something has failed, serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import tenacity
from tenacity.retry import retry_base, retry_if_exception_cause_type
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from svcmesh.core.callables import is_async, takes_one
from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Outcome

StopStrategy: TypeAlias = stop_base | Callable[[Any], bool]
WaitStrategy: TypeAlias = wait_base | Callable[[Any], float]
RetryStrategy: TypeAlias = retry_base | Callable[[Any], bool]

_BASES: dict[str, type] = {"stop": stop_base, "wait": wait_base, "retry": retry_base}
_PARTS = ("stops", "wait_funcs", "strategies", "retries")
"""Where tenacity's combined strategies keep what they are made of."""

_DECORATOR = tenacity.retry(reraise=True).__code__
"""Of the function that ``tenacity.retry(…)`` returns."""


class Ended:
    """How an attempt ended, as tenacity's strategies read it (a finished future in tenacity)."""

    __slots__ = ("_outcome", "attempt_number")

    def __init__(self, outcome: Outcome, attempt_number: int) -> None:
        self._outcome = outcome
        self.attempt_number = attempt_number

    @property
    def failed(self) -> bool:
        """Whether the caller would see an exception."""
        return self._outcome.error is not None

    def exception(self) -> BaseException | None:
        """Return the exception, or None."""
        return self._outcome.error

    def result(self) -> Any:
        """Return the value, or raise the exception."""
        if self._outcome.error is not None:
            raise self._outcome.error
        return self._outcome.value

    def done(self) -> bool:
        """Return True: it has ended."""
        return True


@dataclass(slots=True)
class State:
    """What a strategy is asked about: the attributes of tenacity's ``RetryCallState``, on the mesh's clock."""

    retry_object: object
    outcome: Ended
    attempt_number: int = 1
    start_time: float = 0.0
    outcome_timestamp: float = 0.0
    idle_for: float = 0.0
    upcoming_sleep: float = 0.0
    fn: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    next_action: None = None

    @property
    def seconds_since_start(self) -> float:
        """Seconds from the start of the call to the end of the last attempt."""
        return self.outcome_timestamp - self.start_time

    def get_fn_name(self) -> str:
        """Return the qualified name of the function that is called, if one is."""
        return getattr(self.fn, "__qualname__", None) or "<unknown>"


def ask(strategy: Callable[[Any], Any], state: State) -> Any:
    """Return what ``strategy`` says of ``state``, which stands in for tenacity's own type."""
    return strategy(state)


def check(kind: str, strategy: object) -> None:
    """Make sure that ``strategy`` can serve as ``kind`` (``stop``, ``wait`` or ``retry``).

    Raises:
        ConfigError: it is a strategy of another kind, a class, a coroutine function, or takes not one argument.
    """
    expected = f"{kind} must be a tenacity {kind} strategy or a function of one argument (the state)"
    if isinstance(strategy, tenacity.BaseRetrying):
        raise ConfigError(f"{expected}, not the engine {strategy!r}: svcmesh has its own; pass what it was made of")
    if strategy is tenacity.retry or getattr(strategy, "__code__", None) is _DECORATOR:
        raise ConfigError(f"{expected}, not the decorator {strategy!r}; pass what it was made of")
    if isinstance(strategy, type) or not callable(strategy):
        hint = "; make an instance of it" if isinstance(strategy, type) else ""
        raise ConfigError(f"{expected}, not {strategy!r}{hint}")
    for other, base in _BASES.items():
        if other != kind and isinstance(strategy, base) and not isinstance(strategy, _BASES[kind]):
            raise ConfigError(f"{expected}, not the {other} strategy {strategy!r}; pass it as {other}=")
    for leaf in leaves(strategy):
        if is_async(leaf):
            raise ConfigError(f"{kind} must not be asynchronous ({leaf!r}): no policy ever waits; use a plain function")
    if not isinstance(strategy, _BASES[kind]) and not takes_one(strategy):
        raise ConfigError(f"{expected}; {strategy!r} cannot be called with one argument")


def leaves(strategy: Any) -> Iterator[Any]:
    """Yield the simple strategies that ``strategy`` is made of; itself when it is simple."""
    parts = next((getattr(strategy, name) for name in _PARTS if hasattr(strategy, name)), None)
    if parts is None:
        yield strategy
        return
    for part in parts:
        yield from leaves(part)


def wants_results(strategy: Any) -> bool:
    """Whether ``strategy``, a retry strategy, may ask for another attempt after a result, without an exception.

    Told by the method that answers, so that a subclass with one of its own is asked rather than passed over.
    """
    if isinstance(strategy, tenacity.retry_any):
        return any(wants_results(part) for part in strategy.retries)
    if isinstance(strategy, tenacity.retry_all):
        return all(wants_results(part) for part in strategy.retries)
    return getattr(type(strategy), "__call__", None) not in _EXCEPTIONS_ONLY  # noqa: B004 - which one, not whether


_EXCEPTIONS_ONLY = {
    tenacity.retry_if_exception.__call__,
    retry_if_exception_cause_type.__call__,
    type(tenacity.retry_never).__call__,
}
