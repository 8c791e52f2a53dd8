"""A policy alone, around any function: retries, deadline and breaker for calls that no discovery is needed for."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakSet

from svcmesh.core.endpoint import PICKED
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy
from svcmesh.service import check_policy
from svcmesh.transport.functions import guarded

P = ParamSpec("P")
R = TypeVar("R")

_runtime = Runtime()
"""What all decorated functions share. Its thread starts only for a breaker that has a storage of the user's."""
_clusters: WeakSet[Cluster] = WeakSet()


def resilient(policy: Policy) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function, coroutine function or method with ``policy``; its signature stays.

    Each decorated function has its own state (breaker, retry budget). There is one "endpoint", the function itself,
    so breakers of either scope guard it, and every exception counts as a failure for them, as in pybreaker;
    ``CircuitBreaker(exclude=…)`` says which do not. Retries need ``Policy(idempotent=True)``, except of calls that
    surely were not sent.

    Raises:
        ConfigError: no policy; when decorating: neither a function nor a coroutine function.

    Threads: any. Cost when the call succeeds: see docs/reference/benchmarks.md.
    """
    check_policy(policy)

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        cluster = Cluster(name, _runtime, timers=False)  # nobody can listen, and each call looks for itself
        cluster.apply(Snapshot((PICKED,), authoritative=True))
        _clusters.add(cluster)
        return guarded(fn, View(cluster, policy), idempotent=policy.idempotent is True, blame_all=True)

    return decorate


def _end() -> None:
    _runtime.close()
    _runtime.worker.join()


def _reset() -> None:
    _runtime.reset_after_fork()
    for cluster in list(_clusters):
        cluster.reset_after_fork()


atexit.register(_end)
os.register_at_fork(after_in_child=_reset)
