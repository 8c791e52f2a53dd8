"""Configurations around another one: what is inside decides about keys, tables and slow start, and is what learns."""

from __future__ import annotations

import pickle
import random

import pytest

from svcmesh import ConfigError, Endpoint, Policy
from svcmesh.balance import (
    DeterministicAperture,
    LeastRequest,
    Maglev,
    OrcaWeightedRoundRobin,
    PeakEwma,
    RandomSubsetting,
    RoundRobin,
    SlowStart,
    Subset,
    WeightedRoundRobin,
    hash_key,
)
from svcmesh.balance.slow_start import slowed
from svcmesh.balance.wrapping import innermost, named

AROUND = {
    "random": lambda child: RandomSubsetting(3, child),
    "metadata": lambda child: Subset({"stage": "prod"}, child),
    "both": lambda child: Subset({"stage": "prod"}, RandomSubsetting(3, child)),
}
around = pytest.mark.parametrize("wrap", AROUND.values(), ids=AROUND)
POOL = [Endpoint(f"10.0.0.{n}:80", metadata={"stage": "prod"}) for n in range(9)]


@around
def test_keys_belong_to_what_is_inside(wrap):
    keyed = wrap(Maglev(table_size=251))
    assert keyed.affinity
    assert keyed.slow
    assert not wrap(RoundRobin()).affinity
    Policy(load_balancer=keyed, hash_on=len)
    with pytest.raises(ConfigError, match="hash_on"):
        Policy(load_balancer=wrap(RoundRobin()), hash_on=len)

    picker = keyed.picker(POOL, rng=random.Random(1))
    assert len({picker.pick(hash_key("user 7")) for _ in range(20)}) == 1


@around
def test_slow_start_goes_by_what_is_inside(wrap):
    for child in (LeastRequest(), WeightedRoundRobin()):
        assert slowed(wrap(child)) == wrap(child)
    assert slowed(wrap(RoundRobin())) == wrap(WeightedRoundRobin())
    assert slowed(wrap(PeakEwma())) is None
    Policy(load_balancer=wrap(RoundRobin()), slow_start=SlowStart(10))
    with pytest.raises(ConfigError, match="slow_start"):
        Policy(load_balancer=wrap(PeakEwma()), slow_start=SlowStart(10))


@around
@pytest.mark.parametrize("child", [PeakEwma(), OrcaWeightedRoundRobin(), LeastRequest()])
def test_the_innermost_is_what_learns(wrap, child):
    assert innermost(wrap(child)) is child
    assert innermost(child) is child


def test_their_names_tell_what_is_inside():
    assert named(LeastRequest()) == "LeastRequest"
    assert named(AROUND["both"](PeakEwma())) == "Subset of RandomSubsetting of PeakEwma"


@pytest.mark.parametrize("child", [None, LeastRequest, "LeastRequest"])
def test_what_is_inside_must_be_a_configuration(child):
    for wrap in (AROUND["random"], AROUND["metadata"], lambda child: DeterministicAperture(0, 1, child_policy=child)):
        with pytest.raises(ConfigError, match="child_policy"):
            wrap(child)


@around
def test_they_are_values(wrap):
    one, other = wrap(LeastRequest()), wrap(LeastRequest())
    assert one == other == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert one != wrap(RoundRobin())
