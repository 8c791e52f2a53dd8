"""Tickets: as many as weights say, of whole weights alone, and never very many."""

from __future__ import annotations

from collections import Counter
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance.cell import Cell
from svcmesh.balance.tickets import MOST, tickets


def cells(*weights):
    return [Cell(Endpoint(f"a{n}:1", weight=weight)) for n, weight in enumerate(weights)]


@given(st.lists(st.integers(1, 50) | st.integers(1, 50).map(float), min_size=1, max_size=20))
def test_each_has_as_many_as_its_weight_says(weights):
    pool = cells(*weights)
    found = Counter(tickets(pool))
    divisor = gcd(*map(int, weights))

    assert found == {cell: cell.endpoint.weight / divisor for cell in pool}


@pytest.mark.parametrize("weight", [1, 0.1, 7, 2**32, 1e300])
def test_equals_have_one_each(weight):
    pool = cells(weight, weight, weight)

    assert list(tickets(pool)) == pool


@pytest.mark.parametrize(
    "weights", [(0.5, 1), (1, MOST), (1.0, 2.0**53), (2**53 + 1, 1), (1e300, 5e299), (1, 2**32, 2**32)], ids=str
)
def test_others_have_none(weights):
    assert tickets(cells(*weights)) is None


def test_large_weights_are_few_tickets_where_they_have_a_divisor():
    pool = cells(2**32, 2**33)

    assert Counter(tickets(pool)) == {pool[0]: 1, pool[1]: 2}
    assert len(tickets(cells(1, MOST - 1))) == MOST
