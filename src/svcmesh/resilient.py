"""A policy alone, around any function: retries, deadline and breaker for calls that no discovery is needed for."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from svcmesh.engine.alone import alone
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy, check_policy
from svcmesh.transport.functions import guarded

P = ParamSpec("P")
R = TypeVar("R")

_runtime = Runtime()
"""What all decorated functions share. Its thread starts only for a breaker that has a storage of the user's."""


def resilient(policy: Policy) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function, coroutine function or method with ``policy``; its signature stays.

    Each decorated function has its own state (breaker, retry budget). There is one "endpoint", the function itself,
    so breakers of either scope guard it, and every exception counts as a failure for them, as in pybreaker;
    ``CircuitBreaker(exclude=…)`` says which do not. Retries need ``Policy(idempotent=True)``, except of calls that
    surely were not sent.

    Raises:
        ConfigError: no policy; when decorating: neither a function nor a coroutine function, or one that has its
            ``endpoint`` filled in, which is what `Service.guard` is for.

    Threads: any. Cost when the call succeeds: see docs/reference/benchmarks.md.
    """
    check_policy(policy)

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        return guarded(fn, View(alone(name, _runtime), policy), idempotent=policy.idempotent is True, alone=True)

    return decorate
