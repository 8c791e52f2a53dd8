"""Bounded load: nobody gets much more than a share, and overflow goes where the key says."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance import Maglev, RingHash, hash_key
from svcmesh.balance.bounded_load import shuffled

FIVE = [Endpoint(f"10.0.0.{n}:80", weight=1 + n % 2) for n in range(5)]
CONFIGS = [RingHash(hash_balance_factor=150), Maglev(table_size=101, hash_balance_factor=150)]


@pytest.mark.parametrize("config", CONFIGS, ids=["ring", "maglev"])
@given(st.lists(st.integers(0, 3), max_size=60))
def test_nobody_starts_more_than_the_bound_allows(config, keys):
    """Whatever keys come, an endpoint gets a call only while it has no more than its slots, as Envoy counts them."""
    picker, active, total = config.picker(FIVE), Counter[str](), sum(e.weight for e in FIVE)
    for done, key in enumerate(keys):
        endpoint = picker.pick(key)
        slots = max(ceil(((done + 1) * 150 + 99) // 100 * endpoint.weight / total), 1)
        assert active[endpoint.address] <= slots
        picker.started(endpoint)
        active[endpoint.address] += 1


@pytest.mark.parametrize("config", CONFIGS, ids=["ring", "maglev"])
def test_idle_endpoints_keep_their_keys(config):
    """A bound costs no affinity while there is room."""
    unbounded = type(config)(**({"table_size": 101} if isinstance(config, Maglev) else {})).picker(FIVE)
    picker = config.picker(FIVE)

    assert all(picker.pick(key * 2**57) == unbounded.pick(key * 2**57) for key in range(100))


@pytest.mark.parametrize("config", CONFIGS, ids=["ring", "maglev"])
def test_overflow_of_a_key_always_goes_the_same_way(config):
    """So caches stay warm there, too; and what is excluded is not chosen even then."""
    order = []
    for _ in range(2):
        picker = config.picker(FIVE)
        owner = picker.pick(77)
        for _ in range(8):
            picker.started(owner)
        order.append(picker.pick(77))
        assert order[-1] != owner
        assert picker.pick(77, exclude=[order[-1]]) != order[-1]
    assert order[0] == order[1]


@pytest.mark.parametrize("config", [RingHash(hash_balance_factor=100), Maglev(table_size=101, hash_balance_factor=100)])
def test_when_all_that_are_left_are_full_the_least_loaded_takes_it(config):
    """There is always room for one call more, but it may be where the call has been already."""
    idle, busy, busier = FIVE[0], FIVE[2], FIVE[4]
    picker = config.picker([idle, busy, busier])
    for endpoint in [busy] * 20 + [busier] * 30:
        picker.started(endpoint)

    for key in range(0, 2**64, 2**60):
        assert picker.pick(key) == idle
        assert picker.pick(key, exclude=[idle]) == busy, "both have more than their 17 slots"
        assert picker.pick(key, exclude=[idle, busy, busier]) is None


def test_the_shuffle_is_that_of_the_cpp_generator():
    """The 10,000th number of a std::mt19937 seeded with 5489 is 4123659995 (ISO C++, rand.predef)."""
    from svcmesh.balance.bounded_load import _twister

    twister = _twister(5489)
    for _ in range(9_999):
        twister.getrandbits(32)
    assert twister.getrandbits(32) == 4123659995


@given(st.integers(1, 50), st.integers(0, 2**64 - 1))
def test_the_shuffle_is_an_order_of_all(size, key):
    assert sorted(shuffled(size, key)) == list(range(size))


@pytest.mark.parametrize(
    ("config", "owners"),
    [
        (Maglev(table_size=251, hash_balance_factor=120), [1, 1, 2, 1, 2, 7, 1, 2, 7, 7, 1, 3, 3, 1, 2, 7]),
        (RingHash(hash_balance_factor=120), [5, 5, 2, 2, 7, 7, 5, 2, 7, 1, 1, 1, 1, 5, 2, 7]),
    ],
    ids=["maglev", "ring"],
)
def test_overflow_goes_where_envoys_does(config, owners):
    """Envoy shuffles the hosts as they were listed, whatever the order in its table is.

    The numbers are of a model of its own: table or ring, std::mt19937 and the sums, written after Envoy's sources.
    In tests/beside_envoy a real one is asked.
    """
    listed = [Endpoint(f"10.0.0.{n}:80", weight=weight) for n, weight in [(7, 1), (1, 2), (5, 1), (3, 3), (2, 1)]]
    picker, found = config.picker(listed), []
    for _ in owners:
        endpoint = picker.pick(hash_key("hot"))
        picker.started(endpoint)
        found.append(int(endpoint.address[7]))

    assert found == owners
