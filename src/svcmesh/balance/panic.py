"""When so few hosts of a priority are well that their health is better ignored.

If most hosts look ill, either the checks are wrong or the few that are well would be drowned by the calls of all. So a
priority in panic spreads its calls over all its hosts. It does not come to that while the priorities together can take
all calls, however few hosts of one are well.

Source: Envoy, panic_threshold.rst and load_balancer_impl.cc (isHostSetInPanic, recalculateLoadInTotalPanic).
"""

from __future__ import annotations

from collections.abc import Sequence

from svcmesh.balance.priority import Availability, Census, Loads, loads, loads_by_size


def in_panic(census: Census, threshold: float) -> bool:
    """Return whether a share of the hosts below ``threshold``, from 0 to 1, is well or degraded.

    Exactly the threshold is no panic, and a priority without hosts is in panic at any threshold but 0.
    """
    counted = census.total - census.excluded
    percent = round(100 * threshold, 9)  # 100 * 0.07 is a little more than 7
    return 100 * (census.healthy + census.degraded) < percent * counted if counted > 0 else percent > 0


def panics(censuses: Sequence[Census], available: Availability, threshold: float) -> tuple[bool, ...]:
    """Return which priorities are in panic; none while all calls can be taken."""
    enough = available.total == 100
    return tuple(not enough and in_panic(census, threshold) for census in censuses)


def shared_out(available: Availability, panicking: Sequence[bool], hosts: Sequence[int]) -> Loads:
    """Return what percent of the calls goes where.

    Args:
        available: what the priorities can take. panicking: which of them are in panic.
        hosts: how many may be called in panic, by priority: what counts when all are in panic.
    """
    return loads_by_size(hosts) if all(panicking) else loads(available)
