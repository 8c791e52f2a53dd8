"""Maglev: Envoy's table to the slot, even, indifferent to the order of the list."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import Maglev, hash_key, maglev
from svcmesh.core import giving_way
from svcmesh.core.hashing import xxh64

THREE = [Endpoint(f"10.0.0.{n}:8080") for n in (1, 2, 3)]


def envoys(endpoints, size):
    """Return Envoy's table, written down as maglev_lb.cc has it."""
    hosts = sorted(endpoints, key=lambda e: e.address)
    total = sum(e.weight for e in hosts)
    weights = [e.weight / total for e in hosts]
    offsets = [xxh64(e.address) % size for e in hosts]
    skips = [xxh64(e.address, 1) % (size - 1) + 1 for e in hosts]
    nexts, targets, table = [0] * len(hosts), [0.0] * len(hosts), [None] * size
    filled, iteration = 0, 1
    while filled < size:
        for i, host in enumerate(hosts):
            if filled >= size:
                break
            if iteration * weights[i] < targets[i]:
                continue
            targets[i] += max(weights)
            while table[slot := (offsets[i] + skips[i] * nexts[i]) % size] is not None:
                nexts[i] += 1
            table[slot] = host
            nexts[i] += 1
            filled += 1
        iteration += 1
    return table


def test_a_small_table():
    picker = Maglev(table_size=13).picker(THREE)

    assert [THREE.index(picker.pick(slot)) + 1 for slot in range(13)] == [1, 3, 2, 3, 1, 2, 2, 1, 1, 1, 3, 3, 2]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.sampled_from([2, 3, 11, 101, 1009]), st.randoms())
def test_every_slot_is_envoys(weights, size, shuffler):
    """For any weights, in any order of the list."""
    endpoints = [Endpoint(f"10.0.0.{n}:80", weight=weight) for n, weight in enumerate(weights)]
    table = envoys(endpoints, size)
    shuffler.shuffle(endpoints)
    picker = Maglev(table_size=size).picker(endpoints)

    assert [picker.pick(slot) for slot in range(size)] == table


class Hash(int):
    """A hash that notes in ``sums`` how often something was added to it: once for each slot that was tried."""

    sums = 0

    def __mod__(self, number):
        return Hash(int(self) % number)

    def __add__(self, number):
        Hash.sums += 1
        return Hash(int(self) + number)


def test_the_last_free_slots_are_not_looked_for_one_by_one(monkeypatch):
    """Half of all tries were for them, in single turns of thousands, within which nobody else could run."""
    monkeypatch.setattr(maglev, "xxh64", lambda *data: Hash(xxh64(*data)))
    looks = []
    monkeypatch.setattr(giving_way, "perf_counter", lambda: looks.append(Hash.sums) or 0.0)
    monkeypatch.setattr(Hash, "sums", 0)
    Maglev(table_size=4001).picker([Endpoint(f"10.0.0.{n}:80") for n in range(100)])

    assert Hash.sums < 5 * 4001, "it was 9"
    assert max(later - earlier for earlier, later in pairwise(looks)) < 4001 / 4


def test_shares_differ_by_one_slot():
    endpoints = [Endpoint(f"10.0.0.{n}:80") for n in range(10)]
    picker = Maglev(table_size=1009).picker(endpoints)
    slots = Counter(picker.pick(slot) for slot in range(1009))

    assert max(slots.values()) - min(slots.values()) <= 1


def test_few_keys_move_when_one_leaves():
    """Besides those of the one that left, less than 1 %."""
    endpoints = [Endpoint(f"10.0.0.{n}:8080") for n in range(10)]
    before, after = Maglev().picker(endpoints), Maglev().picker(endpoints[:9])
    keys = [hash_key(str(n)) for n in range(20_000)]
    moved = sum(before.pick(k) != after.pick(k) for k in keys if before.pick(k) != endpoints[9])

    assert moved < 200


@given(st.integers(0, 2**64 - 1))
def test_what_is_excluded_sends_a_key_along_its_path(key):
    """First to the slots of Envoy's retries, in the end to whoever is left; the same for every process."""
    picker, other = (Maglev(table_size=1009).picker(list(order)) for order in (THREE, THREE[::-1]))
    table = envoys(THREE, 1009)
    looks = dict.fromkeys(table[(key ^ (2**64 - a)) % 1009 if a else key % 1009] for a in range(16))
    path = []
    while (found := picker.pick(key, exclude=path)) is not None:
        assert found == other.pick(key, exclude=path)
        path.append(found)

    assert path[: len(looks)] == list(looks)
    assert sorted(path, key=lambda e: e.address) == THREE


def test_calls_without_a_key_spread():
    picker = Maglev().picker(THREE, rng=random.Random(1))
    shares = Counter(picker.pick() for _ in range(3000))

    assert min(shares.values()) > 850


def test_nothing_is_left_when_all_are_excluded():
    assert Maglev(table_size=13).picker(THREE).pick(5, exclude=THREE) is None
    assert Maglev().picker([]).pick(5) is None


def test_more_endpoints_than_slots_leave_some_without():
    """As documented; nothing fails."""
    endpoints = [Endpoint(f"10.0.0.{n}:80") for n in range(20)]
    picker = Maglev(table_size=11).picker(endpoints)

    assert len({picker.pick(slot) for slot in range(11)}) == 11


@pytest.mark.parametrize("key", ["user", b"user", 1.5])
def test_a_key_that_is_no_int_is_named(key):
    with pytest.raises(TypeError, match=r"a key must be an int, not .*hash_key\(\)"):
        Maglev(table_size=13).picker(THREE).pick(key)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"table_size": 65536}, "table_size must be a prime number, not 65536"),
        ({"table_size": 1}, "table_size"),
        ({"table_size": 5_000_077}, "table_size must be at most 5,000,011"),
        ({"table_size": "13"}, "table_size"),
        ({"table_size": 10**5000}, "at most 5,000,011, not a number of 16,610 bits"),
        ({"hash_balance_factor": 99}, "hash_balance_factor"),
    ],
)
def test_bad_configuration_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        Maglev(**wrong)
