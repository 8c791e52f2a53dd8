"""Deterministic aperture: Finagle's widths, and every server called by equally many clients, whatever the numbers."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import DeterministicAperture, PeakEwma, Random, RoundRobin, WeightedRoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.core.hashing import xxh64
from tests.balance.shares import chi_square, critical


def pool(weights):
    """Return endpoints with these weights in the order of the ring."""
    addresses = sorted((f"10.0.0.{n}:80" for n in range(len(weights))), key=xxh64)
    return [Endpoint(address, weight=weight) for address, weight in zip(addresses, weights, strict=True)]


def aperture(config, endpoints):
    cells = [Cell(endpoint) for endpoint in endpoints]
    return {cell.endpoint: part for cell, part in config.aperture(cells)}


@pytest.mark.parametrize(
    ("total", "servers", "least", "width"),
    [
        (10, 100, 12, 0.2),  # 12 of 100 servers face 1.2 arcs of ten clients: so two
        (7, 100, 12, 1 / 7),  # 0.84 arcs: one
        (100, 10, 12, 1.0),  # fewer servers than the least
        (3, 12, 12, 1.0),
        (1, 100, 12, 1.0),
        (1000, 1000, 12, 0.012),
        (4, 8, 2, 0.25),
    ],
)
def test_widths_worked_out_by_hand(total, servers, least, width):
    assert DeterministicAperture(0, total, least).width(servers) == pytest.approx(width)


def test_parts_worked_out_by_hand():
    """Four servers, three clients, one server at least each: 4/3 of a server on the ring is whose they are."""
    ring = pool([1, 1, 1, 1])
    a, b, c, d = ring
    found = [aperture(DeterministicAperture(number, 3, 1), ring) for number in range(3)]

    assert found[0] == {a: 1.0, b: pytest.approx(1 / 3)}
    assert found[1] == {b: pytest.approx(2 / 3), c: pytest.approx(2 / 3)}
    assert found[2] == {c: pytest.approx(1 / 3), d: 1.0}


def test_an_aperture_goes_on_at_the_beginning_of_the_ring():
    ring = pool([1, 1, 1, 1])
    assert aperture(DeterministicAperture(3, 4, 2), ring) == {ring[0]: 1.0, ring[3]: 1.0}


def test_arcs_are_as_long_as_weights():
    ring = pool([1, 2, 1])
    assert aperture(DeterministicAperture(0, 2, 1), ring) == {ring[0]: 1.0, ring[1]: pytest.approx(0.5)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.integers(1, 40), st.integers(1, 30))
def test_all_clients_together_share_out_every_server_equally(weights, total, least):
    """By what is theirs of its weight: each server is faced by as many arcs as any other one."""
    ring, sums = pool(weights), Counter()
    for number in range(total):
        for endpoint, part in aperture(DeterministicAperture(number, total, least), ring).items():
            sums[endpoint] += part
    turns = DeterministicAperture(0, total, least).width(len(ring)) * total

    assert sums == {endpoint: pytest.approx(turns, abs=1e-6 * total) for endpoint in ring}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 20), st.data())
def test_there_are_as_many_servers_as_wanted(servers, total, least, data):
    number = data.draw(st.integers(0, total - 1))
    found = aperture(DeterministicAperture(number, total, least), pool([1] * servers))
    assert sum(found.values()) >= min(least, servers) - 1e-6


def test_the_order_of_the_list_does_not_matter():
    ring = pool([1] * 30)
    config = DeterministicAperture(2, 9)
    assert aperture(config, ring) == aperture(config, random.Random(1).sample(ring, 30))


def test_weights_whose_sum_is_no_float_are_as_good_as_others():
    for number in range(2):
        config = DeterministicAperture(number, 2, 1)
        assert list(aperture(config, pool([1e308] * 3)).values()) == list(aperture(config, pool([1] * 3)).values())
        assert config.picker(pool([1e308] * 3)).pick() is not None


@pytest.mark.parametrize("least", [1, 12])
@pytest.mark.parametrize(
    "weights", [[2**64, 1e-320, 1], [1e-320, 2**64, 1], [1, 2**64, 5e-324], [5e-324, 5e-324, 5e-324]]
)
def test_a_server_whose_arc_is_but_a_point_is_somebodys(weights, least):
    """And each client has somebody, as with weights of any other size."""
    ring, called = pool(weights), set()
    for number in range(3):
        config = DeterministicAperture(number, 3, least)
        called |= aperture(config, ring).keys()
        assert config.picker(ring, rng=random.Random(1)).pick() is not None
    assert called == set(ring)


@pytest.mark.parametrize("child", [Random(), WeightedRoundRobin()])
def test_a_server_in_part_gets_that_part_of_the_calls(child):
    ring = pool([1, 1, 1, 1])
    picker = DeterministicAperture(0, 3, 1, child).picker(ring, rng=random.Random(1))
    picks = Counter(picker.pick() for _ in range(4000))

    assert chi_square(picks, {ring[0]: 3, ring[1]: 1}) < critical(1)
    assert {cell.endpoint for cell in picker.cells} == set(ring[:2])


def test_calls_are_counted_in_the_servers_own_cells():
    ring = pool([1, 1, 1, 1])
    picker = DeterministicAperture(0, 3, 1).picker(ring, rng=random.Random(1))
    found = picker.pick()
    picker.started(found)
    assert [cell.in_flight for cell in picker.cells if cell.endpoint == found] == [1]
    assert {picker.pick() for _ in range(50)} == set(ring[:2])  # two choices: the busy one is met only by weight
    picker.finished(found, 0.1, False)
    assert all(cell.in_flight == 0 for cell in picker.cells)


def test_endpoints_without_traffic_are_not_on_the_ring():
    ring = [Endpoint("off:1", weight=0), *pool([1, 1])]
    picker = DeterministicAperture(1, 2).picker(ring, rng=random.Random(1))
    assert {picker.pick() for _ in range(50)} == set(ring[1:])
    assert DeterministicAperture(0, 2).picker(ring[:1]).pick() is DeterministicAperture(0, 2).picker([]).pick() is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("instance_id", {"instance_id": 3}),
        ("instance_id", {"instance_id": -1}),
        ("total_instances", {"total_instances": 0}),
        ("min_aperture", {"min_aperture": 0}),
        ("child_policy", {"child_policy": RoundRobin()}),
        ("child_policy", {"child_policy": PeakEwma()}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, wrong):
    with pytest.raises(ConfigError, match=field):
        DeterministicAperture(**{"instance_id": 0, "total_instances": 3, **wrong})
