"""Slow start: an endpoint that has just come gets few calls at first, and its full share when it has warmed up.

A process that just started has cold caches, an empty pool of connections to its database and code that nobody compiled
yet. With its full share of the calls at once its first answers are slow, or it falls over. So for a while its weight is
lowered, and rises with time.

Source: Envoy, slow_start.rst and load_balancer_impl.cc (applySlowStartFactor).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.picker import LoadBalancer
from svcmesh.balance.random_choice import Random
from svcmesh.balance.round_robin import RoundRobin
from svcmesh.balance.weighted_round_robin import WeightedRoundRobin
from svcmesh.balance.wrapping import Wrapping
from svcmesh.core import checks
from svcmesh.core.errors import ConfigError

STEPS = 20
"""A window has at least so many steps, and a step is at most a second."""


@dataclass(frozen=True)
class SlowStart:
    """How the weight of an endpoint rises after it joined, or after its registry called it healthy again.

    Args:
        slow_start_window: seconds that it takes, more than 0.
        aggression: how fast the weight rises, more than 0; default 1.0: evenly. With 2 it is the square root of the
            elapsed part of the window, and so rises faster at first.
        min_weight_percent: percent of the weight that it starts with, from 0 to 100; default 10.

    Raises:
        ConfigError: a field out of its range.
    """

    slow_start_window: float
    aggression: float = 1.0
    min_weight_percent: float = 10

    def __post_init__(self) -> None:
        """Check every field."""
        checks.duration("slow_start_window", self.slow_start_window)
        if checks.number("aggression", self.aggression) <= 0:
            raise ConfigError(f"aggression must be more than 0, not {self.aggression!r}")
        checks.between("min_weight_percent", self.min_weight_percent, 0, 100)

    def factor(self, elapsed: float) -> float:
        """Return what the weight is multiplied by so many seconds after the beginning; Envoy counts milliseconds."""
        if elapsed >= self.slow_start_window:
            return 1.0
        passed = max(1, int(elapsed * 1000)) / (self.slow_start_window * 1000)
        return min(1.0, max(math.pow(passed, 1 / self.aggression), self.min_weight_percent / 100))

    @property
    def step(self) -> float:
        """Seconds after which weights are looked at again."""
        return min(1.0, self.slow_start_window / STEPS)


def slowed(balancer: LoadBalancer) -> LoadBalancer | None:
    """Return what chooses by lowered weights in the place of ``balancer``; None: it goes by more than weights.

    `RoundRobin` knows no weights, so the weighted one stands in for it while an endpoint starts slowly. What is around
    a balancer stays around it.
    """
    if isinstance(balancer, Wrapping):
        inside = slowed(balancer.child_policy)
        if inside is None or inside is balancer.child_policy:
            return None if inside is None else balancer
        return cast("LoadBalancer", replace(cast("Any", balancer), child_policy=inside))
    if isinstance(balancer, RoundRobin):
        return WeightedRoundRobin()
    return balancer if isinstance(balancer, LeastRequest | Random | WeightedRoundRobin) else None
