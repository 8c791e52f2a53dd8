"""Round robin: exact turns, from a random start, retries included."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance import RoundRobin


def endpoints(size):
    return [Endpoint(f"10.0.{n // 250}.{n % 250}:80") for n in range(size)]


@given(st.integers(1, 30) | st.integers(250, 1200), st.integers(1, 3), st.randoms(use_true_random=False))
def test_every_lap_visits_each_once_in_the_order_of_the_list(size, laps, rng):
    ring = endpoints(size)
    picker = RoundRobin().picker(ring, rng=rng)
    picks = [picker.pick() for _ in range(size * laps)]

    start = ring.index(picks[0])
    assert picks == [ring[(start + n) % size] for n in range(size * laps)]


def test_the_start_is_random():
    """Clients that start together do not all call the same server first."""
    starts = Counter(RoundRobin().picker(endpoints(4), rng=random.Random(seed)).pick().address for seed in range(400))

    assert len(starts) == 4
    assert min(starts.values()) > 60  # 100 on average, standard deviation 9


def test_weights_are_ignored():
    ring = [Endpoint("a:1", weight=100), Endpoint("b:1", weight=1)]
    picker = RoundRobin().picker(ring)

    assert Counter(picker.pick().address for _ in range(10)) == {"a:1": 5, "b:1": 5}


def test_retries_stay_in_the_rotation():
    """With one broken endpoint of three, the others share its retries evenly: no neighbour gets them all."""
    ring = endpoints(3)
    picker = RoundRobin().picker(ring)
    served = Counter()
    for _ in range(300):
        first = picker.pick()
        served[picker.pick(exclude=[first]) if first is ring[0] else first] += 1

    assert served == {ring[1]: 150, ring[2]: 150}


@pytest.mark.parametrize("size", [3, 50])
def test_of_a_few_that_are_left_each_has_its_turn(size):
    """When almost all are excluded the rest still takes turns."""
    ring = endpoints(size)
    picker = RoundRobin().picker(ring, rng=random.Random(1))
    picks = Counter(picker.pick(exclude=ring[2:]) for _ in range(100))

    assert set(picks) == set(ring[:2])
    assert min(picks.values()) >= 30


def test_threads_share_the_turns_exactly():
    """Eight threads take 8,000 turns and each endpoint gets the same number of them."""
    picker, counts = RoundRobin().picker(endpoints(10)), []

    def work():
        counts.append(Counter(picker.pick() for _ in range(1000)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(sum(counts, Counter()).values()) == {800}
