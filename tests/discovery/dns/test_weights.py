"""RFC 2782 as tiers and weights."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.discovery.dns.records import Service
from svcmesh.discovery.dns.weights import Target, endpoints_of


def targets(*rows):
    return [Target(Service(p, w, 80 + n, f"t{n}"), (f"10.0.0.{n}",)) for n, (p, w) in enumerate(rows, 1)]


def seen(rows):
    return {e.address: (e.priority, e.weight) for e in endpoints_of(rows)}


def test_priorities_are_tiers_without_gaps_and_weights_are_weights():
    assert seen(targets((10, 60), (10, 40), (500, 1))) == {
        "10.0.0.1:81": (0, 60),
        "10.0.0.2:82": (0, 40),
        "10.0.0.3:83": (1, 1),
    }


def test_a_tier_whose_targets_have_no_address_is_none():
    rows = targets((10, 1), (20, 1))

    assert seen([rows[0]._replace(addresses=()), rows[1]]) == {"10.0.0.2:82": (0, 1)}


def test_all_weights_0_are_alike():
    assert {weight for _, weight in seen(targets((0, 0), (0, 0))).values()} == {1.0}


def test_the_addresses_of_a_target_share_its_weight():
    row = Target(Service(1, 6, 80, "t"), ("10.0.0.1", "10.0.0.2", "fd00::1"))

    assert seen([row]) == {"10.0.0.1:80": (0, 2), "10.0.0.2:80": (0, 2), "[fd00::1]:80": (0, 2)}


def test_an_address_of_two_records_is_one_endpoint():
    here, there, spare = (Service(p, w, 80, name) for p, w, name in ((1, 3, "a"), (1, 4, "b"), (2, 9, "c")))
    rows = [Target(service, ("10.0.0.1",)) for service in (spare, there, here)]

    assert seen(rows) == {"10.0.0.1:80": (0, 7)}


def test_the_target_is_in_the_metadata():
    (endpoint,) = endpoints_of(targets((1, 1)))

    assert endpoint.metadata["target"] == "t1"


def drawn(weights, rng):
    """Draw as RFC 2782 says: those with 0 first, a running sum, a whole number from 0 to the sum."""
    order = [n for n, weight in enumerate(weights) if not weight]
    rng.shuffle(order)
    order += [n for n, weight in enumerate(weights) if weight]
    number, total = rng.randint(0, sum(weights)), 0
    for n in order:
        total += weights[n]
        if total >= number:
            return n
    raise AssertionError


@pytest.mark.parametrize("weights", [(0, 0, 3), (0, 1, 8), (5, 4)])
def test_shares_are_those_of_the_rfc(weights):
    rng, draws = Random(7), 40_000
    counts = Counter(drawn(weights, rng) for _ in range(draws))
    ours = [w for _, w in seen(targets(*((1, w) for w in weights))).values()]
    light = 1 if 0 in weights else 0

    for n, weight in enumerate(sorted(ours)):
        theirs = counts[sorted(range(len(weights)), key=lambda i: weights[i])[n]] / draws
        expected = weight / (sum(weights) + light)
        assert abs(theirs - expected) < 0.02 + (0 if light else 0.1 * expected)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.integers(1, 9), st.integers(1, 9))))
def test_any_records_have_tiers_without_gaps_and_endpoints_once(rows):
    found = endpoints_of(Target(Service(p, w, port, f"t{n}"), (f"10.0.0.{n}",)) for p, w, port, n in rows)

    assert len({e.address for e in found}) == len(found)
    assert all(e.weight > 0 for e in found)
    assert {e.address for e in found} == {f"10.0.0.{n}:{port}" for _, _, port, n in rows}
    if found:
        assert {min(e.priority for e in found)} == {0}
