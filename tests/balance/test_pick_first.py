"""Pick first: one endpoint until it goes, and no way back by itself."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import PickFirst
from svcmesh.balance.cell import Cell
from svcmesh.testing import FakeClock

THREE = [Endpoint(f"10.0.0.{n}:80") for n in (1, 2, 3)]


def test_the_first_takes_all():
    picker = PickFirst().picker(THREE)

    assert {picker.pick() for _ in range(10)} == {THREE[0]}
    assert picker.pick(exclude=THREE[:1]) == THREE[1]
    assert picker.pick(exclude=THREE) is None
    assert PickFirst().picker([]).pick() is None


def test_weight_zero_is_never_first():
    assert PickFirst().picker([Endpoint("10.0.0.9:80", weight=0), *THREE]).pick() == THREE[0]


def test_who_took_over_keeps_the_calls():
    """The first one comes back from its ejection, and nothing changes."""
    cells, config, rng, clock = [Cell(e) for e in THREE], PickFirst(), random.Random(1), FakeClock()

    assert config.over(cells, rng, clock).pick() == THREE[0]
    assert config.over(cells[1:], rng, clock).pick() == THREE[1]
    assert config.over(cells, rng, clock).pick() == THREE[1]
    assert config.over(cells[::2], rng, clock).pick() == THREE[0]


def test_shuffled_clients_spread():
    firsts = Counter(
        PickFirst(shuffle_address_list=True).picker(THREE, rng=random.Random(seed)).pick() for seed in range(300)
    )

    assert min(firsts.values()) > 70
    assert len(firsts) == 3


def test_bad_configuration_is_refused():
    with pytest.raises(ConfigError, match="shuffle_address_list"):
        PickFirst(shuffle_address_list=1)
