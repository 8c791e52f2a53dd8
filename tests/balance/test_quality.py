"""What pickers do for many clients at once; `benchmarks.sim.balance` shows the same with more of everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.sim.balance import ATTRACTED, PICKERS
from benchmarks.sim.world import FAILING, NORMAL, SLOW, Found, World, simulate
from svcmesh.balance import LeastRequest, LoadBalancer, PeakEwma, Random, RoundRobin

WORLD = World(calls=12_000, clients=20, servers=40, slow=2, load=0.5, slowness=5.0)


@pytest.fixture(scope="module")
def rotation() -> Found:
    return simulate(WORLD, RoundRobin())


@pytest.mark.parametrize("balancer", [LeastRequest(), PeakEwma()], ids=["LeastRequest", "PeakEwma"])
def test_looking_at_load_halves_the_tail_of_a_rotation_at_least(rotation: Found, balancer: LoadBalancer) -> None:
    """Slow servers that cannot take an even share get less than one."""
    found = simulate(WORLD, balancer)

    assert found.quantile(0.99) <= rotation.quantile(0.99) / 2
    assert found.share(WORLD, SLOW) < rotation.share(WORLD, SLOW)


def test_peak_ewma_keeps_away_from_slow_servers_that_have_no_queue() -> None:
    """Where nobody is overloaded, calls in flight tell little; latencies do."""
    world = replace(WORLD, load=0.3, slowness=3.0)

    assert simulate(world, PeakEwma()).quantile(0.99) < 0.75 * simulate(world, RoundRobin()).quantile(0.99)


def test_a_server_that_fails_fast_gets_less_than_its_share_of_peak_ewma() -> None:
    """A failure after a millisecond is no advantage over an answer after ten."""
    found = simulate(WORLD, PeakEwma())

    assert found.failed == found.taken[WORLD.slow] > 0
    assert found.share(WORLD, FAILING) < 0.25 / WORLD.servers


def test_a_server_that_fails_fast_gets_little_more_than_its_share_of_least_request() -> None:
    """It is idle whenever somebody looks, which helps it where the other of two is not: with many clients, seldom."""
    found = simulate(replace(WORLD, clients=100), LeastRequest())

    assert found.share(WORLD, FAILING) < ATTRACTED / WORLD.servers


def test_a_server_that_fails_fast_gets_at_most_twice_its_share_of_least_request_by_a_single_client() -> None:
    """It wins each comparison that it is in, but chance brings it into two of every forty."""
    found = simulate(replace(WORLD, clients=1, load=0.95), LeastRequest())

    assert 1.2 / WORLD.servers < found.share(WORLD, FAILING) <= 2.01 / WORLD.servers


@pytest.mark.parametrize("name", PICKERS)
def test_every_call_is_answered_or_fails_and_a_run_can_be_repeated(name: str) -> None:
    """The same seed gives the same calls, to the last digit."""
    world = replace(WORLD, calls=1_000, clients=10)
    one, other = (simulate(world, PICKERS[name]) for _ in range(2))

    assert one == other
    assert sum(one.taken.values()) == len(one.seconds) + one.failed == world.calls
    assert one.failed == one.taken[world.slow]


def test_a_rotation_shares_evenly_and_random_nearly(rotation: Found) -> None:
    """Starts at random places leave a rotation of twenty clients even to one call a client."""
    even = WORLD.calls / WORLD.servers

    assert all(abs(count - even) <= WORLD.clients for count in rotation.taken.values())
    assert rotation.most(WORLD, NORMAL) < simulate(WORLD, Random()).most(WORLD, NORMAL) < 1.4


def test_quantiles_are_those_of_answered_calls() -> None:
    """The part below the quantile is what was asked for."""
    found = Found(seconds=[0.4, 0.1, 0.3, 0.2], taken=Counter({0: 4}))

    assert [found.quantile(part) for part in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.1, 0.2, 0.3, 0.4, 0.4]
