"""Stand-ins of other weights: what pickers see of them, and that the cells themselves come out."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance import LeastRequest, Maglev, Random, RingHash, WeightedRoundRobin, hash_key
from svcmesh.balance.affinity import normalized
from svcmesh.balance.cell import Cell
from svcmesh.balance.weighed import Unweighed, Weighed, as_cells
from svcmesh.core.clock import SYSTEM

CELLS = [Cell(Endpoint(f"10.0.0.{n}:80", weight=4, metadata={"n": n})) for n in range(3)]


def over(balancer, *weights, cells=CELLS):
    weighed = as_cells([Weighed(cell, weight) for cell, weight in zip(cells, weights, strict=True)])
    return Unweighed(balancer.over(weighed, random.Random(1), SYSTEM))


def test_it_is_its_cell_but_for_the_weight():
    cell = Cell(CELLS[0].endpoint)
    stand_in = Weighed(cell, 0.5)
    cell.started += 3
    cell.finished += 1

    assert (stand_in.endpoint.weight, stand_in.endpoint.address) == (0.5, cell.endpoint.address)
    assert stand_in.endpoint.metadata == cell.endpoint.metadata
    assert (stand_in.started, stand_in.in_flight) == (3, 2)
    assert stand_in.kept is cell.kept
    assert Weighed(cell, 4).endpoint is cell.endpoint, "the same weight needs no other endpoint"


def test_two_for_one_cell_are_equal():
    one, other = CELLS[:2]

    assert Weighed(one, 1) == Weighed(one, 2)
    assert len({Weighed(one, 1), Weighed(one, 2), Weighed(other, 1)}) == 2
    assert Weighed(one, 1) != one


@pytest.mark.parametrize("balancer", [Random(), LeastRequest(), WeightedRoundRobin()])
def test_shares_follow_the_other_weights_and_the_cells_come_out(balancer):
    picker = over(balancer, 4, 4, 1)
    found = Counter(picker.choose() for _ in range(9000))

    assert set(found) == set(CELLS)
    assert found[CELLS[2]] == pytest.approx(1000, abs=160)
    assert picker.cells == tuple(CELLS)


def test_exclusion_goes_by_address():
    picker = over(Random(), 4, 4, 1)

    assert picker.choose_from(None, [CELLS[0].endpoint, CELLS[1].endpoint]) is CELLS[2]
    assert picker.choose_from(None, [cell.endpoint for cell in CELLS]) is None


def test_least_request_sees_the_calls_in_flight():
    cells = [Cell(Endpoint(f"10.0.0.{n}:80")) for n in range(2)]
    cells[0].started = 50
    picker = over(LeastRequest(), 1, 0.5, cells=cells)

    found = Counter(picker.choose() for _ in range(1000))
    assert found[cells[1]] == pytest.approx(704, abs=75), "all but where three draws met the busy one: 8 of 27"


def test_parts_that_localities_gave_are_not_made_to_add_up():
    """Envoy divides by the weights of all localities, those without a host included."""
    weighed = as_cells([Weighed(cell, 4, share) for cell, share in zip(CELLS, (0.25, 0.25, 0.1), strict=True)])

    assert normalized(weighed) == [0.25, 0.25, 0.1]
    assert normalized(CELLS) == [1 / 3] * 3


@given(st.lists(st.integers(1, 50), min_size=3, max_size=3))
def test_a_table_over_parts_is_the_one_over_weights_in_the_same_ratio(weights):
    shares = [weight / sum(weights) for weight in weights]
    weighed = as_cells([Weighed(cell, 4, share) for cell, share in zip(CELLS, shares, strict=True)])
    plain = [Cell(Endpoint(cell.endpoint.address, weight=w)) for cell, w in zip(CELLS, weights, strict=True)]
    for balancer in (Maglev(251), RingHash(64)):
        by_parts = Unweighed(balancer.over(weighed, random.Random(1), SYSTEM))
        by_weights = balancer.over(plain, random.Random(1), SYSTEM)
        for n in range(40):
            key = hash_key(f"key {n}")
            found, expected = by_parts.choose_from(key, ()), by_weights.choose_from(key, ())
            assert found.endpoint.address == expected.endpoint.address


def test_the_ring_is_as_short_as_envoys_where_a_locality_has_nobody():
    """Two of weight 1 in one of two localities of equal weight: parts of 0.25, so 16 of 64 points each, and no more."""
    weighed = as_cells([Weighed(cell, 1, 0.25) for cell in CELLS[:2]])
    _, owners = RingHash(64)._points(weighed, normalized(weighed))

    assert Counter(owners) == {0: 16, 1: 16}
