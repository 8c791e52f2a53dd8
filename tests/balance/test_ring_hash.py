"""Ring hash: Envoy's ring to the bit, stable when endpoints change, even within its known bounds."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import RingHash, hash_key
from svcmesh.core.hashing import murmur2, xxh64

KEYS = st.integers(0, 2**64 - 1)
THREE = [Endpoint(f"10.0.0.{n}:8080") for n in (1, 2, 3)]


def envoys(endpoints, config):
    """Return Envoy's ring, written down as ring_hash_lb.cc has it."""
    digest = {"XX_HASH": xxh64, "MURMUR_HASH_2": murmur2}[config.hash_function]
    total = sum(e.weight for e in endpoints)
    shares = [e.weight / total for e in endpoints]
    least = min(shares)
    scale = min(-(-(least * config.minimum_ring_size) // 1) / least, config.maximum_ring_size or 4096)
    ring, current, target = [], 0.0, 0.0
    for endpoint, share in zip(endpoints, shares, strict=True):
        target += scale * share
        index = 0
        while current < target:
            ring.append((digest(f"{endpoint.address}_{index}"), endpoint))
            index += 1
            current += 1
    return sorted(ring, key=lambda entry: entry[0])


def test_the_order_of_a_small_ring():
    """Three endpoints on at least six points stand in the order 2, 1, 3, 2, 3, 1."""
    config = RingHash(minimum_ring_size=6)
    picker, ring = config.picker(THREE), envoys(THREE, config)

    assert [THREE.index(picker.pick(place)) + 1 for place, _ in ring] == [2, 1, 3, 2, 3, 1]


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    least=st.integers(1, 200),
    more=st.integers(0, 200),
    function=st.sampled_from(["XX_HASH", "MURMUR_HASH_2"]),
    keys=st.lists(KEYS, max_size=50),
)
def test_every_key_goes_where_envoy_sends_it(weights, least, more, function, keys):
    """For any weights and sizes; keys on a point and next to one included."""
    config = RingHash(minimum_ring_size=least, maximum_ring_size=least + more, hash_function=function)
    endpoints = [Endpoint(f"10.0.0.{n}:80", weight=weight) for n, weight in enumerate(weights)]
    ring = envoys(endpoints, config)
    places = [place for place, _ in ring]
    picker = config.picker(endpoints)

    for key in (*keys, *places, *(place + 1 for place in places), *(place - 1 for place in places), 0, 2**64 - 1):
        assert picker.pick(key) == ring[bisect_left(places, key % 2**64) % len(ring)][1]


def test_a_ring_of_many_points_is_in_order():
    """Which is sorted in parts: keys on a point and next to one still go where Envoy sends them."""
    config = RingHash(minimum_ring_size=20_000, maximum_ring_size=20_000)
    picker, ring = config.picker(THREE), envoys(THREE, config)
    places = [place for place, _ in ring]
    keys = [0, 2**64 - 1, *places[::7], *(place + 1 for place in places[::11])]

    assert [picker.pick(key) for key in keys] == [ring[bisect_left(places, key) % len(ring)][1] for key in keys]


@given(KEYS, st.integers(1, 3))
def test_what_is_excluded_sends_a_key_to_the_next_on_the_circle(key, how_many):
    picker = RingHash().picker(THREE)
    excluded = []
    for _ in range(how_many):
        excluded.append(picker.pick(key, exclude=excluded))
    expected = list(dict.fromkeys(e for place, e in rotated(envoys(THREE, RingHash()), key)))

    assert excluded == expected[:how_many]


def rotated(ring, key):
    begin = bisect_left([place for place, _ in ring], key)
    return [*ring[begin:], *ring[:begin]]


def test_nothing_is_left_when_all_are_excluded():
    assert RingHash().picker(THREE).pick(5, exclude=THREE) is None
    assert RingHash().picker([]).pick(5) is None


@given(st.lists(KEYS, min_size=1, max_size=100))
def test_who_leaves_takes_only_its_own_keys_along_where_points_stay(keys):
    """With as many points as endpoints ask for, removing one moves nobody else's keys."""
    config = RingHash(minimum_ring_size=1, maximum_ring_size=8_388_608)
    before, after = config.picker(THREE), config.picker(THREE[:2])
    for key in keys:
        if before.pick(key) != THREE[2]:
            assert after.pick(key) == before.pick(key)


def test_a_hash_key_stands_in_for_the_address():
    """An instance that moved keeps its keys; a hash key that is no text, or empty, does not count."""
    moved = [Endpoint(f"10.9.9.{n}:1", metadata={"hash_key": f"10.0.0.{n}:8080"}) for n in (1, 2, 3)]
    unnamed = [Endpoint(e.address, metadata={"hash_key": odd}) for e, odd in zip(THREE, (7, "", None), strict=True)]
    pickers = [RingHash().picker(endpoints) for endpoints in (THREE, moved, unnamed)]
    for key in map(hash_key, map(str, range(200))):
        one, two, three = (picker.pick(key) for picker in pickers)
        assert THREE.index(one) == moved.index(two) == THREE.index(Endpoint(three.address))


def test_shares_are_even_within_the_known_bounds():
    """Of 100 endpoints on 65,536 points nobody has 1.2 times the mean; a call without a key goes anywhere."""
    endpoints = [Endpoint(f"10.0.0.{n}:80") for n in range(100)]
    picker = RingHash(minimum_ring_size=65536).picker(endpoints, rng=random.Random(1))
    shares = Counter(picker.pick() for _ in range(100_000))

    assert max(shares.values()) < 1.2 * 1000
    assert len(shares) == 100


def test_keys_beyond_64_bits_count_modulo():
    picker = RingHash().picker(THREE)

    assert picker.pick(-1) == picker.pick(2**64 - 1)
    assert picker.pick(2**64 + 99) == picker.pick(99)
    assert picker.pick(2**70, exclude=THREE[:1]) == picker.pick(0, exclude=THREE[:1])


def test_weight_zero_owns_nothing():
    endpoints = [*THREE, Endpoint("10.0.0.9:80", weight=0)]
    picker, without = RingHash().picker(endpoints), RingHash().picker(THREE)

    assert all(picker.pick(key) == without.pick(key) for key in map(hash_key, map(str, range(500))))


@pytest.mark.parametrize("light", [1, 1e-6, 1e-320])
def test_weights_far_apart_do_not_fill_the_memory(light):
    """A registry may say anything: the ring stays small, and the light endpoint may own nothing."""
    endpoints = [Endpoint("10.0.0.1:80", weight=2**32), Endpoint("10.0.0.2:80", weight=light)]
    picker = RingHash().picker(endpoints)

    assert {picker.pick(key) for key in map(hash_key, map(str, range(100)))} == {endpoints[0]}


def test_who_owns_nothing_comes_after_all_others():
    """Better than to call once more who has failed; but for those that take no traffic."""
    owner, off, *others = [Endpoint(f"10.0.0.{n}:80", weight=weight) for n, weight in enumerate((2**32, 0, 1, 1))]
    picker = RingHash().picker([owner, off, *others])

    assert picker.pick(5) == owner
    assert {picker.pick(key, exclude=[owner]) for key in range(9)} == {*others}
    assert picker.pick(5, exclude=[owner, others[0]]) == others[1]
    assert picker.pick(5, exclude=[owner, *others]) is None


def test_each_of_many_endpoints_owns_something():
    """The usual maximum grows with them."""
    endpoints = [Endpoint(f"10.0.{n // 250}.{n % 250}:80") for n in range(5000)]
    picker = RingHash().picker(endpoints)

    assert {picker.pick(place) for place, _ in envoys(endpoints, RingHash(maximum_ring_size=8_388_608))} == {*endpoints}


@pytest.mark.parametrize("key", ["user", b"user", 1.5])
@pytest.mark.parametrize("exclude", [(), THREE[:1]])
def test_a_key_that_is_no_int_is_named(key, exclude):
    with pytest.raises(TypeError, match=r"a key must be an int, not .*hash_key\(\)"):
        RingHash().picker(THREE).pick(key, exclude=exclude)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"minimum_ring_size": 0}, "minimum_ring_size"),
        ({"minimum_ring_size": 8_388_609}, "minimum_ring_size must be at most 8,388,608"),
        ({"maximum_ring_size": 8_388_609}, "maximum_ring_size must be at most 8,388,608"),
        ({"minimum_ring_size": 9, "maximum_ring_size": 8}, "minimum_ring_size 9 is above maximum_ring_size 8"),
        ({"hash_function": "MD5"}, "hash_function must be one of XX_HASH, MURMUR_HASH_2, not 'MD5'"),
        ({"hash_function": []}, r"hash_function must be one of XX_HASH, MURMUR_HASH_2, not \[\]"),
        ({"hash_balance_factor": 99}, "hash_balance_factor"),
        ({"hash_balance_factor": ""}, "hash_balance_factor must be a whole number of at least 100, not ''"),
        ({"hash_balance_factor": False}, "hash_balance_factor must be a whole number of at least 100, not False"),
        ({"minimum_ring_size": 10**5000}, "at most 8,388,608, not a number of 16,610 bits"),
        ({"minimum_ring_size": 10.5}, "minimum_ring_size"),
    ],
)
def test_bad_configuration_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        RingHash(**wrong)


@pytest.mark.parametrize("none", [None, 0])
def test_no_bound_is_said_in_two_ways(none):
    assert RingHash(hash_balance_factor=none).picker(THREE).pick(7) == RingHash().picker(THREE).pick(7)
