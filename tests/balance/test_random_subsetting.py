"""Random subsetting: gRFC A68's order, few changes from a change, and clients spread over servers as chance has it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import PickFirst, RandomSubsetting, RoundRobin
from svcmesh.balance.cell import Cell
from tests.balance.shares import chi_square, critical


def pool(size, first=0):
    return [Endpoint(f"10.0.{n // 250}.{n % 250}:80") for n in range(first, first + size)]


def subset(config, endpoints, rng=None):
    cells = [Cell(endpoint) for endpoint in endpoints]
    return [cell.endpoint for cell in config.subset(cells, rng or random.Random(1))]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_a_seed_gives_grpcs_order(seed):
    """Ascending by XXH64 of the address."""
    endpoints = pool(40)
    scores = {endpoint: xxhash.xxh64(endpoint.address.encode(), seed=seed).intdigest() for endpoint in endpoints}

    assert subset(RandomSubsetting(7, seed=seed), endpoints) == sorted(endpoints, key=scores.get)[:7]


@pytest.mark.parametrize(("seed", "last_numbers"), [(0, [1, 6, 8]), (1, [5, 2, 9])])
def test_subsets_worked_out_by_the_specification_of_xxh64(seed, last_numbers):
    """Of 10.0.0.0:80 to 10.0.0.9:80, by a plain implementation of it."""
    expected = [f"10.0.0.{number}:80" for number in last_numbers]
    assert [endpoint.address for endpoint in subset(RandomSubsetting(3, seed=seed), pool(10))] == expected


@pytest.mark.parametrize("size", [5, 6])
def test_so_few_are_kept_in_their_order(size):
    endpoints = pool(5)
    assert subset(RandomSubsetting(size, seed=3), endpoints) == endpoints


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**64 - 1), st.data())
def test_one_that_goes_changes_one_member_at_most(size, count, seed, data):
    endpoints = pool(count)
    gone = data.draw(st.sampled_from(endpoints))
    before = set(subset(RandomSubsetting(size, seed=seed), endpoints))
    after = set(subset(RandomSubsetting(size, seed=seed), [e for e in endpoints if e != gone]))

    assert before - after <= {gone}
    assert len(after - before) <= 1
    assert len(after) == min(size, count - 1)


def test_without_a_seed_each_client_has_its_own_and_keeps_it():
    config, rng = RandomSubsetting(5), random.Random(1)
    cells = [Cell(endpoint) for endpoint in pool(100)]
    first = config.subset(cells, rng)

    assert config.subset(cells, rng) == config.subset(list(reversed(cells)), rng) == first
    assert subset(config, pool(100), random.Random(2)) != [cell.endpoint for cell in first]


def test_a_larger_subset_has_the_smaller_one_in_it():
    cells, rng = [Cell(endpoint) for endpoint in pool(100)], random.Random(1)
    assert RandomSubsetting(9).subset(cells, rng)[:5] == RandomSubsetting(5).subset(cells, rng)


@pytest.mark.parametrize("seeded", [True, False])
def test_servers_have_as_many_clients_as_chance_has_it(seeded):
    """400 clients with 5 of 20 servers each: no server is favoured."""
    clients, endpoints = Counter(), pool(20)
    rng = random.Random(7)
    for number in range(400):
        config = RandomSubsetting(5, seed=number * 2**40 if seeded else None)
        clients.update(subset(config, endpoints, rng))

    assert chi_square(clients, dict.fromkeys(endpoints, 1)) < critical(19)


def test_only_the_subset_is_picked():
    endpoints = pool(50)
    config = RandomSubsetting(4, RoundRobin(), seed=9)
    picker = config.picker(endpoints, rng=random.Random(1))
    members = subset(config, endpoints)

    assert Counter(picker.pick() for _ in range(400)) == dict.fromkeys(members, 100)
    assert picker.pick(exclude=members) is None
    assert RandomSubsetting(4, PickFirst(), seed=9).picker(endpoints).pick() == members[0]


def test_endpoints_without_traffic_take_no_seats():
    endpoints = [Endpoint("off:1", weight=0), *pool(3)]
    picker = RandomSubsetting(3, seed=0).picker(endpoints, rng=random.Random(1))
    assert {picker.pick() for _ in range(50)} == set(endpoints[1:])
    assert RandomSubsetting(3).picker(endpoints[:1]).pick() is RandomSubsetting(3).picker([]).pick() is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("subset_size", {"subset_size": 0}),
        ("subset_size", {"subset_size": 2.5}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**64}),
        ("seed", {"seed": "a"}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, wrong):
    with pytest.raises(ConfigError, match=field):
        RandomSubsetting(**{"subset_size": 3, **wrong})
