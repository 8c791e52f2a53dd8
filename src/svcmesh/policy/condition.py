"""What is worth another attempt: `Retry(on=…)` as words, statuses, codes and exception classes.

The words are Envoy's where Envoy has them. A word that nobody knows is an error: Envoy drops it silently, and the
retries that somebody believed in never happen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, REFUSED_STREAM, RESET, Outcome
from svcmesh.policy.status import GRPC_TO_HTTP, code_name, http_status

RATE_LIMITED = "rate-limited"
"""HTTP 429 with a Retry-After: the other side says when it will take the request."""

WORDS = frozenset({CONNECT_FAILURE, RESET, REFUSED_STREAM, PER_TRY_TIMEOUT, RATE_LIMITED})

DEFAULT_ON: frozenset[Any] = WORDS | {502, 503, 504, "UNAVAILABLE"}
"""What `Retry` repeats when nothing is said: the network's failures, gateway errors, UNAVAILABLE, 429 with a time."""

Condition: TypeAlias = str | int | type[Exception]


def check_on(on: object) -> frozenset[Condition]:
    """Return the conditions with statuses as ints and gRPC codes as names.

    Raises:
        ConfigError: ``on`` is not a collection, or holds something that is not a condition.
    """
    if isinstance(on, str | bytes | type) or not isinstance(on, Collection):
        raise ConfigError(f"on must be a collection of conditions, such as ('reset', 503), or a function, not {on!r}")
    return frozenset(_check_condition(condition) for condition in on)


@dataclass(frozen=True, slots=True)
class Matcher:
    """Conditions, ready to be asked. A class, not a closure, so that policies can be pickled.  Cost: O(1)."""

    reasons: frozenset[str]
    classes: tuple[type[Exception], ...]
    rate_limited: bool

    def __call__(self, outcome: Outcome) -> bool:
        """Return whether ``outcome`` meets one of the conditions."""
        return (
            outcome.reason in self.reasons
            or (self.rate_limited and outcome.reason == "429" and outcome.retry_after is not None)
            or isinstance(outcome.error, self.classes)
        )


def compile_on(on: frozenset[Condition]) -> Matcher:
    """Return what says whether an outcome meets one of the conditions ``on``, which have been checked."""
    return Matcher(
        reasons=frozenset(str(condition) for condition in on if not isinstance(condition, type)) - {RATE_LIMITED},
        classes=tuple(condition for condition in on if isinstance(condition, type)),
        rate_limited=RATE_LIMITED in on,
    )


def _check_condition(condition: Any) -> Condition:
    if isinstance(condition, type) and issubclass(condition, Exception):
        return condition
    if isinstance(condition, int):
        return http_status("on", condition)
    name = condition if isinstance(condition, str) else getattr(condition, "name", None)
    if name in WORDS:
        return str(name)
    if isinstance(name, str) and name in GRPC_TO_HTTP:
        return code_name("on", name)
    raise ConfigError(
        f"on has the unknown condition {condition!r}; known are {', '.join(sorted(WORDS))}, HTTP statuses as int, "
        "gRPC codes in upper case and exception classes"
    )
