"""The alias method: columns whose shares are exactly those of the weights."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance.alias import columns, draw
from svcmesh.balance.cell import Cell


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_the_columns_hold_exactly_the_weights(weights):
    """Adding up what each column gives to each cell returns the weights, up to rounding."""
    cells = [Cell(Endpoint(f"a{n}:1", weight=w)) for n, w in enumerate(weights)]
    shares = defaultdict(float)
    for index, (bound, first, second) in enumerate(columns(cells)):
        assert index <= bound <= index + 1
        shares[first] += bound - index
        shares[second] += index + 1 - bound

    for cell in cells:
        expected = cell.endpoint.weight / sum(weights) * len(cells)
        assert shares[cell] == pytest.approx(expected, rel=1e-6, abs=1e-9 * len(cells))


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1, 2**32, 1.7e308])
def test_extreme_weights_are_drawn(weight):
    cells = [Cell(Endpoint(f"a{n}:1", weight=weight)) for n in range(3)]
    table, rng = columns(cells), random.Random(1)

    assert {draw(table, rng) for _ in range(100)} == set(cells)
