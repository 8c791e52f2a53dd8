"""Numbers of Envoy's tests for what share of the calls goes where: whoever agrees with all of them shares as it does.

Its files are below test/extensions/load_balancing_policies, if nothing else is said; the test that has a row is named.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from svcmesh import Locality
from svcmesh.balance import SlowStart, ZoneAware
from svcmesh.balance.bounded_load import shuffled
from svcmesh.balance.panic import panics, shared_out
from svcmesh.balance.priority import Availability, Census, Loads, loads_elsewhere
from svcmesh.balance.zone_aware import WHOLE

NO, ALL = False, True


def shares(
    hosts: Sequence[tuple[int, ...]], factor: int = 140, threshold: float = 0.5
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    """Return the loads of healthy hosts and of degraded ones, and which priorities are in panic."""
    censuses = [Census(*each) for each in hosts]
    available = Availability.of(censuses, factor)
    panicking = panics(censuses, available, threshold)
    found = shared_out(available, panicking, [each[0] for each in hosts])
    return found.healthy, found.degraded, panicking


# -- priorities: common/load_balancer_impl_base_test.cc ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "loads", "panic"),
    [
        # PrioritySelection
        ([(1, 0), (1, 0)], (50, 50), ALL),
        ([(1, 0), (2, 0)], (34, 66), ALL),
        ([(1, 0), (2, 0), (1, 1)], (0, 0, 100), NO),
        ([(1, 1), (2, 0), (1, 1)], (100, 0, 0), NO),
        # GentleFailover
        ([(1, 1), (1, 1)], (100, 0), NO),
        ([(2, 1), (2, 1)], (70, 30), NO),
        ([(4, 1), (2, 2)], (35, 65), NO),
        ([(4, 1), (4, 1)], (50, 50), ALL),
        ([(4, 1, 0, 3), (5, 1)], (100, 0), NO),
        ([(4, 0, 0, 4), (4, 1)], (50, 50), ALL),
        ([(4, 0, 0, 1), (6, 1, 0, 2)], (40, 60), ALL),
        # GentleFailoverWithExtraLevels
        ([(2, 1), (2, 1), (2, 1)], (70, 30, 0), NO),
        ([(4, 1), (2, 2), (2, 1)], (35, 65, 0), NO),
        ([(4, 1), (4, 1), (4, 1)], (35, 35, 30), NO),
        ([(5, 1), (5, 1), (5, 1)], (34, 33, 33), ALL),
        ([(5, 0), (5, 0), (5, 5)], (0, 0, 100), NO),
        ([(5, 0), (5, 0), (5, 4)], (0, 0, 100), NO),
        ([(5, 0), (5, 0), (5, 2)], (34, 33, 33), ALL),
        ([(5, 0, 5), (5, 2, 2), (5, 2)], (0, 56, 44), NO),
        ([(5, 0), (3, 0), (2, 0)], (50, 30, 20), ALL),
        ([(5, 0), (6, 2), (3, 1)], (37, 42, 21), ALL),
        ([(5, 0), (5, 0, 2), (5, 0, 1)], (34, 33, 33), ALL),
        ([(3, 0), (3, 0), (3, 0)], (34, 33, 33), ALL),
        ([(0, 0), (6, 0), (3, 0)], (0, 67, 33), ALL),
    ],
)
def test_loads_of_priorities(hosts: list[tuple[int, ...]], loads: tuple[int, ...], panic: bool) -> None:
    """Hosts in all, healthy, degraded and excluded."""
    nothing = (0,) * len(hosts)
    assert shares(hosts) == (loads, nothing, (panic,) * len(hosts))


def test_what_degraded_hosts_take() -> None:
    """GentleFailoverWithExtraLevels, at the default threshold and without panic; WeightedPriorityHealthDegraded."""
    assert shares([(5, 0, 1), (5, 0, 5), (5, 1)])[:2] == ((0, 0, 28), (28, 44, 0))
    assert shares([(5, 0), (5, 0, 2), (5, 0, 1)], threshold=0)[:2] == ((0, 0, 0), (0, 67, 33))
    assert shares([(10, 4, 3), (10, 1, 9)], factor=100)[:2] == ((40, 10), (30, 20))


def test_other_factors_and_weights() -> None:
    """OverProvisioningFactor, WeightedPriorityHealth, WeightedPriorityHealthExcluded."""
    assert shares([(4, 2), (4, 2)])[0] == (70, 30)
    assert shares([(4, 2), (4, 2)], factor=100)[0] == (50, 50)
    assert shares([(10, 6), (1, 1)], factor=100)[0] == (60, 40)
    assert shares([(20, 4, 0, 10), (1, 1)], factor=100)[0] == (40, 60)


# -- priorities of retries: test/extensions/retry/priority/previous_priorities/config_test.cc --------------------------


@pytest.mark.parametrize(
    ("hosts", "attempts"),
    [
        ([(2, 2), (2, 2)], [(0, (0, 100), (0, 0)), (1, None, None)]),
        ([(10, 0), (10, 0), (10, 0)], [(0, None, None)]),
        (
            [(10, 3), (10, 2), (10, 10)],
            [(0, (0, 28, 72), (0, 0, 0)), (1, (0, 0, 100), (0, 0, 0)), (2, None, None)],
        ),
        (
            [(10, 0, 3), (10, 0, 2), (10, 0, 10)],
            [(0, (0, 0, 0), (0, 28, 72)), (1, (0, 0, 0), (0, 0, 100)), (2, None, None)],
        ),
        (
            [(10, 0, 3), (10, 9, 1), (10, 2)],
            [(1, (0, 0, 40), (60, 0, 0)), (2, (0, 0, 0), (100, 0, 0)), (0, None, None)],
        ),
    ],
    ids=[
        "DefaultFrequency",
        "NoHealthyUpstreams",
        "DefaultFrequencyUnhealthyPriorities",
        "DefaultFrequencyUnhealthyPrioritiesDegradedLoad",
        "DefaultFrequencyUnhealthyPrioritiesDegradedLoadSpillover",
    ],
)
def test_loads_after_attempts(
    hosts: list[tuple[int, ...]], attempts: list[tuple[int, tuple[int, ...] | None, tuple[int, ...] | None]]
) -> None:
    """After each attempt, at a priority; None: as without one."""
    available = Availability.of([Census(*each) for each in hosts], 140)
    met = []
    for priority, healthy, degraded in attempts:
        met.append(priority)
        found = loads_elsewhere(available, met, 1)
        assert (found and (found.healthy, found.degraded)) == (healthy and (healthy, degraded))


def test_loads_change_after_every_second_attempt() -> None:
    """OverridenFrequency."""
    available = Availability((100, 100), (0, 0))
    assert loads_elsewhere(available, [0], 2) is None
    assert loads_elsewhere(available, [0, 0], 2) == Loads((0, 100), (0, 0))


# -- zones: round_robin/round_robin_lb_test.cc -------------------------------------------------------------------------

A, B, C, D, E, F, H = (Locality("", zone) for zone in "abcdefh")


class Drawn:
    """Chance that says what a test wants."""

    def __init__(self, *draws: float) -> None:
        self.random = iter(draws).__next__


@pytest.mark.parametrize(
    ("own", "servers", "here", "draws"),
    [
        # ZoneAwareResidualsMismatched
        (
            {A: 2, B: 2, C: 1, D: 1},
            {A: 1, C: 3, D: 3, E: 1},
            A,
            [(0, 0, A), (3749, 0, A), (3750, 0, C), (3750, 2083, C), (9999, 2084, D), (9999, 4168, E), (9999, 5417, E)],
        ),
        # ZoneAwareDifferentZoneSize
        ({A: 1, B: 1}, {A: 1, B: 1, C: 1}, B, [(0, 0, B), (6665, 0, B), (6666, 0, C), (9999, 3332, C)]),
        # ZoneAwareRoutingSmallZone
        ({A: 1, B: 1, C: 1}, {A: 1, B: 2, C: 2}, A, [(100, 0, A), (9999, 2, B)]),
        # ZoneAwareNoMatchingZones
        (
            {A: 1, B: 1, C: 1},
            {D: 1, E: 1, F: 1},
            A,
            [(0, 3332, D), (0, 3333, E), (0, 6665, E), (0, 6666, F), (0, 9998, F)],
        ),
        # ZoneAwareEmptyLocalities
        (
            {A: 1, C: 1, D: 1, F: 1},
            {A: 0, B: 0, C: 2, E: 1, F: 2, D: 0, H: 1},
            A,
            [(0, 0, C), (0, 832, C), (0, 833, E), (0, 2498, E), (0, 2499, F), (0, 3331, F), (0, 3332, H), (0, 4997, H)],
        ),
        # ZoneAwareZonesMismatched
        ({A: 1, B: 1}, {A: 1, C: 1}, A, [(0, 0, A), (9999, 0, A)]),
        ({A: 1, B: 1}, {A: 1, C: 1}, B, [(0, 0, C), (0, 4999, C)]),
    ],
    ids=["residuals", "sizes", "small", "no match", "empty", "mismatched", "away"],
)
def test_zones_of_draws(
    own: dict[Locality, int], servers: dict[Locality, int], here: Locality, draws: list[tuple[int, int, Locality]]
) -> None:
    """Envoy draws whole numbers: one of 10,000, and one of what other zones can take; the first where some stay."""
    route = ZoneAware(here, own, min_cluster_size=1).route(servers)
    assert route is not None
    residual = route.residual[-1] if route.residual else 1
    for first, second, zone in draws:
        parts = [(first + 0.5) / WHOLE] if route.local else []
        place = route.draw(Drawn(*parts, (second + 0.5) / residual))
        assert route.order[place()] == zone, (first, second)


def test_rounding_that_leaves_nothing() -> None:
    """LowPrecisionForDistribution: any zone will do."""
    route = ZoneAware(A, {A: 45_000, B: 55_000}).route({A: 44_999, B: 55_001})
    assert route is not None
    assert (route.local, route.residual) == (9997, (0, 0))


# -- slow start: round_robin/round_robin_lb_test.cc --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "elapsed", "factor"),
    [
        (SlowStart(60), 12, 0.2),  # SlowStartNoWait
        (SlowStart(60), 20, 0.33),
        (SlowStart(10), 6, 0.6),  # SlowStartWithActiveHC
        (SlowStart(10, aggression=1.5), 9, 0.93),  # SlowStartWithRuntimeAggression
        (SlowStart(10, aggression=1.5), 0, 0.1),
        (SlowStart(60, aggression=2), 5, 0.28),  # SlowStartNoWaitNonLinearAggression
        (SlowStart(60, aggression=2), 6, 0.31),
        (SlowStart(60, aggression=2), 26, 0.65),
        (SlowStart(60, min_weight_percent=35), 12, 0.35),  # SlowStartNoWaitMinWeightPercent35
        (SlowStart(60, min_weight_percent=35), 30, 0.5),
    ],
)
def test_weights_of_those_who_start(config: SlowStart, elapsed: float, factor: float) -> None:
    """To the two digits that its comments have, cut off."""
    assert 0 <= config.factor(elapsed) - factor < 0.01


# -- overflow: common/bounded_load_hlb_test.cc -------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "order"), [(2, [2, 1, 0, 4, 3]), (6, [4, 0, 2, 3, 1]), (7, [0, 1, 4, 3, 2])])
def test_the_order_of_a_key(key: int, order: list[int]) -> None:
    """OneHostOverloaded, MultipleHashSameHostOverloaded."""
    assert list(shuffled(5, key)) == order
