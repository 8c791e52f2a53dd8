"""Distance as priority: Istio's levels, below those of the registry."""

from __future__ import annotations

import pytest

from svcmesh import ConfigError, Endpoint, Locality
from svcmesh.balance import LocalityFailover

HERE = Locality("eu", "a", "1")


def at(*where, priority=0):
    return Endpoint("10.0.0.1:80", locality=Locality(*where) if where else None, priority=priority)


@pytest.mark.parametrize(
    ("where", "level"),
    [
        (("eu", "a", "1"), 0),
        (("eu", "a", "2"), 1),
        (("eu", "a"), 1),
        (("eu", "b", "1"), 2),
        (("us", "a", "1"), 3),
        ((), 3),
    ],
)
def test_nearer_is_sooner(where, level):
    assert LocalityFailover(HERE).level(at(*where)) == level


def test_a_region_to_fail_over_to_comes_before_all_others():
    config = LocalityFailover(HERE, failover={"eu": "us", "us": "asia"})

    assert config.level(at("us", "x")) == 3
    assert config.level(at("asia")) == 4
    assert config.level(at()) == 4


def test_a_rule_for_another_region_says_nothing_of_this_one():
    assert LocalityFailover(HERE, failover={"us": "asia"}).level(at("asia")) == 3


def test_the_registrys_priorities_come_first():
    config = LocalityFailover(HERE)

    assert config.level(at("us")) < config.level(at("eu", "a", "1", priority=1))
    assert config.level(at("eu", "a", "1", priority=1)) < config.level(at("us", priority=1))


@pytest.mark.parametrize("wrong", ["eu", {"eu": 1}, {1: "eu"}, 5, ["eu"]])
def test_regions_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigError, match="failover must be regions"):
        LocalityFailover(HERE, failover=wrong)


def test_a_locality_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="locality must be a Locality"):
        LocalityFailover("eu/a")


def test_it_can_be_compared_hashed_and_copied():
    import pickle

    config = LocalityFailover(HERE, failover={"eu": "us"})
    assert config == LocalityFailover(HERE, failover=[("eu", "us")])
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, LocalityFailover(HERE, failover={"eu": "us"})}) == 1
