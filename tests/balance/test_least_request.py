"""Least request: even when idle, away from the busy, and by weight where weights differ."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import LeastRequest
from svcmesh.balance.cell import Cell
from svcmesh.core.clock import SYSTEM
from tests.balance.shares import chi_square, critical

CONFIGURATIONS = [
    LeastRequest(),
    LeastRequest(choice_count=3),
    LeastRequest(choice_count=99),
    LeastRequest(full_scan=True),
]


def endpoints(size, weight=lambda _: 1):
    return [Endpoint(f"10.0.{n // 250}.{n % 250}:80", weight=weight(n)) for n in range(size)]


def shares(config, pool, calls, in_flight=0, seed=1):
    """Make calls of which ``in_flight`` are always open, ended in random order, and count who got them."""
    picker, rng, open_calls, picks = config.picker(pool, rng=random.Random(seed)), random.Random(2), [], Counter()
    for _ in range(calls):
        endpoint = picker.pick()
        picks[endpoint] += 1
        picker.started(endpoint)
        open_calls.append(endpoint)
        if len(open_calls) > in_flight:
            picker.finished(open_calls.pop(rng.randrange(len(open_calls))), 0.1, False)
    return picks


@pytest.mark.parametrize("size", [2, 3, 10, 100, 300, 1000])
def test_an_idle_client_spreads_exactly(size):
    """With nothing else in flight, shares are as even as round robin's, but in no order to fall into step with."""
    picks = shares(LeastRequest(), endpoints(size), 30 * size)

    assert len(picks) == size
    assert max(picks.values()) - min(picks.values()) <= 4


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("in_flight", [0, 1, 7, 30])
def test_equal_endpoints_get_equal_shares(config, in_flight):
    """Under any load shares are at least as even as random ones."""
    pool = endpoints(10)

    assert chi_square(shares(config, pool, 10_000, in_flight), dict.fromkeys(pool, 1)) < critical(9)


@pytest.mark.parametrize("period", [2, 3, 5, 7, 10, 100, 240, 1000, 1024])
@pytest.mark.parametrize("size", [3, 10])
def test_no_rhythm_of_the_caller_meets_always_the_same(size, period):
    """Every so-many-th call of an idle client reaches all endpoints about equally."""
    pool = endpoints(size)
    picker = LeastRequest().picker(pool, rng=random.Random(11))
    calls = period * (3000 if period <= 10 else 600)
    heavy = Counter(endpoint for n in range(calls) if (endpoint := picker.pick()) and n % period == 0)

    assert set(heavy) == set(pool)
    assert max(heavy.values()) < 2 * min(heavy.values())


@given(st.integers(2, 400), st.integers(2, 5), st.randoms(use_true_random=False))
def test_a_busy_endpoint_is_avoided(size, choice_count, rng):
    """The busiest never wins against anybody else: only a draw of itself alone could choose it, and none is made."""
    cells = [Cell(endpoint) for endpoint in endpoints(size)]
    cells[0].started = 1
    picker = LeastRequest(choice_count=choice_count).over(cells, rng, SYSTEM)

    assert all(picker.choose() is not cells[0] for _ in range(50))


@pytest.mark.parametrize("config", [LeastRequest(full_scan=True), LeastRequest(choice_count=50)], ids=str)
def test_comparing_all_finds_the_least(config):
    cells = [Cell(endpoint) for endpoint in endpoints(20)]
    for number, cell in enumerate(cells):
        cell.started = 3 + number % 5
    cells[7].finished = 1
    cells[7].started = 2
    picker = config.over(cells, random.Random(1), SYSTEM)

    assert {picker.choose() for _ in range(20)} == {cells[7]}


def test_a_full_scan_breaks_ties_at_random():
    cells = [Cell(endpoint) for endpoint in endpoints(6)]
    for cell in cells[:4]:
        cell.started = 1
    cells[0].started = cells[5].started = 9
    picker = LeastRequest(full_scan=True).over(cells, random.Random(1), SYSTEM)
    cells[4].started = 1
    picks = Counter(picker.choose() for _ in range(4_000))

    assert chi_square(picks, dict.fromkeys(cells[1:5], 1)) < critical(3)


def test_two_choices_keep_queues_short():
    """Servers that serve one call each in random order: the longest queue stays near the mean, random's does not."""
    pool, rng = endpoints(100), random.Random(5)
    cells = [Cell(endpoint) for endpoint in pool]
    picker = LeastRequest().over(cells, random.Random(1), SYSTEM)
    longest = 0
    for _ in range(20_000):
        picker.choose().started += 1
        done = cells[rng.randrange(100)]
        done.finished += done.in_flight > 0
        longest = max(longest, *(cell.in_flight for cell in rng.sample(cells, 5)))
    mean = sum(cell.in_flight for cell in cells) / 100

    assert longest <= mean + 8


@pytest.mark.parametrize(
    "config", [*CONFIGURATIONS, LeastRequest(active_request_bias=0), LeastRequest(active_request_bias=2)], ids=str
)
def test_an_idle_client_respects_weights(config):
    """One call at a time: shares in proportion to weight, also where the light one would lose every comparison."""
    pool = endpoints(3, weight=lambda n: [1, 2, 7][n])
    picks = shares(config, pool, 10_000)

    assert chi_square(picks, {e: e.weight for e in pool}) < critical(2)


@pytest.mark.parametrize("config", [*CONFIGURATIONS, LeastRequest(active_request_bias=0)], ids=str)
def test_many_calls_in_flight_are_shared_by_weight(config):
    """With two hundred open calls each endpoint holds about its share of them."""
    pool = endpoints(4, weight=lambda n: n + 1)
    picks = shares(config, pool, 10_000, in_flight=200)

    for endpoint in pool:
        assert picks[endpoint] / 10_000 == pytest.approx(endpoint.weight / 10, rel=0.15)


def test_the_formula_of_the_weighted_comparison():
    """(active + 1) / weight: a heavy endpoint with one call beats an idle light one, with three calls it does not."""
    cells = [Cell(Endpoint("light:1")), Cell(Endpoint("heavy:1", weight=3))]
    picker = LeastRequest(choice_count=9, active_request_bias=1.0).over(cells, random.Random(1), SYSTEM)
    cells[1].started = 1
    assert {picker.choose().endpoint.address for _ in range(30)} == {"heavy:1"}
    cells[1].started = 3
    two = LeastRequest().over(cells, random.Random(1), SYSTEM)

    assert "light:1" in {two.choose().endpoint.address for _ in range(30)}


def test_bias_strengthens_the_load():
    """With a bias of 2 one call in flight weighs as much as a fourfold weight."""
    cells = [Cell(Endpoint("light:1")), Cell(Endpoint("heavy:1", weight=3.5))]
    cells[1].started = 1
    exclude = []
    for bias, winner in ((1.0, "heavy:1"), (2.0, "light:1"), (1e6, "light:1")):
        picker = LeastRequest(full_scan=True, active_request_bias=bias).over(cells, random.Random(1), SYSTEM)
        assert picker.pick(exclude=exclude).address == winner


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"choice_count": 1}, "choice_count"),
        ({"choice_count": 2.0}, "choice_count"),
        ({"choice_count": True}, "choice_count"),
        ({"active_request_bias": -0.1}, "active_request_bias"),
        ({"active_request_bias": math.nan}, "active_request_bias"),
        ({"full_scan": 1}, "full_scan"),
    ],
)
def test_bad_settings_are_named(fields, says):
    with pytest.raises(ConfigError, match=says):
        LeastRequest(**fields)


def test_counts_return_to_zero_from_many_threads():
    """Eight threads start and end 40,000 calls, and nothing is left in flight."""
    pool = endpoints(5)
    picker = LeastRequest().picker(pool)

    def work():
        mine = deque()
        for n in range(5_000):
            mine.append(picker.pick())
            picker.started(mine[-1])
            if len(mine) > 3:
                picker.finished(mine.popleft(), 0.1, n % 7 == 0)
        while mine:
            picker.finished(mine.pop(), 0.1, True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [cell.in_flight for cell in picker.cells] == [0] * 5
    assert sum(cell.started for cell in picker.cells) == 40_000
