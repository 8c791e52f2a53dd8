"""Giving way: all steps in their order, and rests between them."""

from __future__ import annotations

import pytest

from svcmesh.core import giving_way as module
from svcmesh.core.giving_way import OFTEN, giving_way


@pytest.mark.parametrize("count", [0, 1, OFTEN - 1, OFTEN, 3 * OFTEN + 7])
def test_all_steps_come_in_their_order_with_a_rest_after_every_so_many(monkeypatch, count):
    rests = []
    monkeypatch.setattr(module, "sleep", rests.append)

    assert list(giving_way(range(count))) == list(range(count))
    assert rests == [module.REST] * (count // OFTEN)
