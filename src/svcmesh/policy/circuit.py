"""When a circuit breaker opens and how it closes again: the settings, apart from the machine that follows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pybreaker import CircuitBreakerListener, CircuitBreakerStorage

from svcmesh.core import checks
from svcmesh.core.errors import ConfigError

Exclusion: TypeAlias = type[Exception] | Callable[[Exception], bool]
StorageFactory: TypeAlias = Callable[[str], CircuitBreakerStorage]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slow:
    """Open when too many calls are slow, whether they succeed or not.

    Args:
        seconds: a call that takes longer is slow; more than 0.
        rate: share of slow calls at which the breaker opens; more than 0, at most 1; default 1.

    Raises:
        ConfigError: a value outside its range.

    Source: resilience4j, `slowCallRateThreshold`.
    """

    seconds: float
    rate: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        checks.duration("seconds", self.seconds)
        _check_rate("rate", self.rate)


@dataclass(frozen=True, kw_only=True)
class CircuitBreaker:
    """Stop calling what keeps failing, and try it carefully after a while.

    Args:
        scope: ``"endpoint"`` (one breaker each) or ``"service"`` (one for all, fed by what callers get to see).
        failure_rate: share of failures at which it opens, more than 0, at most 1; default 0.5; None: not by rate.
        minimum_calls: calls in the window below which no rate counts; at least 1; default 20.
        window: seconds over which rates are taken; more than 0; default 30.
        consecutive: failures in a row at which it opens, at least 1; default None: not by their number.
        slow: open by slow calls as well.
        open_for: seconds that it stays open; more than 0; default 5.
        probes: calls let through at once when half-open, and successes needed to close; at least 1; default 3.
        exclude: exception classes, or functions of an exception, that say nothing of the other side's health:
            they count neither as success nor as failure.
        listeners: pybreaker listeners. They hear of failures, of probes and of changes of state; a success while
            closed is not announced, since telling would cost every call. One that raises harms nobody. They are told
            when no lock is held, and read the breaker as it is then: open, at the failure that opens it.
        storage: pybreaker storages that share the state with others. For scope ``service`` a storage or a function
            of the breaker's name that makes one; for scope ``endpoint`` such a function. It is called when a storage
            is first needed, on the mesh's own thread; ``listener.failed`` tells what it raises, and it is asked again.

    Raises:
        ConfigError: a value outside its range, neither ``failure_rate`` nor ``consecutive`` nor ``slow``, something
            that is no pybreaker listener or storage, one storage for many endpoints.

    Source: resilience4j (rates, permits), pybreaker (states, listeners, storages).
    """

    scope: Literal["endpoint", "service"] = "endpoint"
    failure_rate: float | None = 0.5
    minimum_calls: int = 20
    window: float = 30.0
    consecutive: int | None = None
    slow: Slow | None = None
    open_for: float = 5.0
    probes: int = 3
    exclude: Collection[Exclusion] = ()
    listeners: Sequence[CircuitBreakerListener] = ()
    storage: CircuitBreakerStorage | StorageFactory | None = None

    def __post_init__(self) -> None:
        """Check every field, and make the collections immutable."""
        if self.scope not in ("endpoint", "service"):
            raise ConfigError(f"scope must be 'endpoint' or 'service', not {self.scope!r}")
        if self.failure_rate is None and self.consecutive is None and self.slow is None:
            raise ConfigError("failure_rate, consecutive and slow are all None: the breaker could never open")
        if self.failure_rate is not None:
            _check_rate("failure_rate", self.failure_rate)
        if self.consecutive is not None:
            checks.whole("consecutive", self.consecutive, 1)
        checks.optional("slow", self.slow, Slow)
        checks.whole("minimum_calls", self.minimum_calls, 1)
        checks.whole("probes", self.probes, 1)
        checks.duration("window", self.window)
        checks.duration("open_for", self.open_for)
        object.__setattr__(self, "exclude", _check_exclude(self.exclude))
        object.__setattr__(self, "listeners", _check_listeners(self.listeners))
        self._check_storage()

    def excludes(self, error: Exception) -> bool:
        """Return whether ``error`` counts neither as success nor as failure."""
        return any(isinstance(error, rule) if isinstance(rule, type) else bool(rule(error)) for rule in self.exclude)

    def _check_storage(self) -> None:
        if self.storage is None:
            return
        one = isinstance(self.storage, CircuitBreakerStorage)
        if one and self.scope == "endpoint":
            raise ConfigError(
                f"storage must be a function of the breaker's name for scope 'endpoint', not the one {self.storage!r}: "
                "all endpoints would share one state"
            )
        if not one and (isinstance(self.storage, type) or not callable(self.storage)):
            raise ConfigError(f"storage must be a pybreaker storage or a function that makes one, not {self.storage!r}")


def _check_rate(field: str, value: float) -> None:
    if not 0 < checks.number(field, value) <= 1:
        raise ConfigError(f"{field} must be more than 0 and at most 1, not {value!r}")


def _check_exclude(exclude: Any) -> tuple[Exclusion, ...]:
    if isinstance(exclude, type | str) or not isinstance(exclude, Collection):
        raise ConfigError(f"exclude must be a collection of exception classes or functions, not {exclude!r}")
    for rule in exclude:
        if not (issubclass(rule, Exception) if isinstance(rule, type) else callable(rule)):
            raise ConfigError(f"exclude must hold exception classes or functions of an exception, not {rule!r}")
    return tuple(exclude)


def _check_listeners(listeners: Any) -> tuple[CircuitBreakerListener, ...]:
    if isinstance(listeners, CircuitBreakerListener | str) or not isinstance(listeners, Collection):
        raise ConfigError(f"listeners must be a collection of pybreaker listeners, not {listeners!r}")
    for listener in listeners:
        if not isinstance(listener, CircuitBreakerListener):
            raise ConfigError(f"listeners must hold instances of pybreaker.CircuitBreakerListener, not {listener!r}")
    return tuple(listeners)
