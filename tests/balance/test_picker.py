"""What every picker owes: exclusion, counting, weight 0, bad input, and few draws of the rng."""

from __future__ import annotations

import copy
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import LeastRequest, OrcaWeightedRoundRobin, PeakEwma, Random, RoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.core.clock import SYSTEM

CONFIGURATIONS = [
    RoundRobin(),
    Random(),
    LeastRequest(),
    LeastRequest(choice_count=3),
    LeastRequest(full_scan=True),
    LeastRequest(active_request_bias=0),
    LeastRequest(active_request_bias=0.5),
    OrcaWeightedRoundRobin(),
]
every = pytest.mark.parametrize("config", CONFIGURATIONS, ids=str)

pools = st.lists(st.sampled_from([0, 0.5, 1, 1, 3]), max_size=12).map(
    lambda weights: [Endpoint(f"a{n}:1", weight=w) for n, w in enumerate(weights)]
)


@every
@given(data=st.data(), pool=pools, rng=st.randoms(use_true_random=False))
def test_a_pick_is_never_excluded_and_none_only_if_nothing_is_left(config, data, pool, rng):
    """Whatever the weights, the load and the exclusions; excluded by address, whatever else differs."""
    picker = config.picker(pool, rng=rng)
    for endpoint in data.draw(st.lists(st.sampled_from(pool), max_size=20)) if pool else ():
        picker.started(endpoint)
    exclude = data.draw(st.lists(st.sampled_from(pool), unique=True)) if pool else []
    left = [e for e in pool if e.weight and e not in exclude]
    for _ in range(5):
        found = picker.pick(exclude=[Endpoint(e.address, weight=9) for e in exclude])
        assert (found in left) if left else (found is None)


@every
@given(pool=pools, rng=st.randoms(use_true_random=False), key=st.integers(0, 2**64 - 1))
def test_a_pick_serves_only_what_takes_traffic(config, pool, rng, key):
    """Weight 0 takes no traffic; a key changes nothing for pickers without affinity."""
    serving = [e for e in pool if e.weight]
    picker = config.picker(pool, rng=rng)
    for found in (picker.pick(), picker.pick(key), picker.pick(key=key, exclude=())):
        assert (found in serving) if serving else (found is None)


@every
def test_choose_and_pick_speak_of_the_same_cells(config):
    """The engine's way and the user's: over the same cells, which outlive the picker."""
    cells = [Cell(Endpoint(f"a{n}:1")) for n in range(3)]
    picker = config.over(cells, random.Random(1), SYSTEM)

    assert picker.cells == tuple(cells)
    assert {picker.choose() for _ in range(100)} == set(cells)
    assert {picker.pick() for _ in range(100)} == {cell.endpoint for cell in cells}
    assert {picker.choose_from(1, [cells[0].endpoint]) for _ in range(100)} == set(cells[1:])


@every
def test_everybody_gets_traffic(config):
    """No light endpoint starves: while calls pile up on the heavy one, sooner or later it is the better choice."""
    pool = [Endpoint("heavy:1", weight=20), Endpoint("light:1", weight=1)]
    picker = config.picker(pool, rng=random.Random(1))
    seen = set()
    for _ in range(600):  # a bias of 0.5 needs the most: (399 + 1) ** 0.5 is 20
        endpoint = picker.pick()
        picker.started(endpoint)
        seen.add(endpoint.address)

    assert seen == {"heavy:1", "light:1"}


@every
def test_counting_is_by_address_and_ignores_strangers(config):
    pool = [Endpoint("a:1"), Endpoint("b:1", weight=0)]
    picker = config.picker(pool)
    for endpoint in (Endpoint("a:1", weight=7), pool[1], Endpoint("gone:1")):
        picker.started(endpoint)
    assert [cell.in_flight for cell in picker.cells] == [1, 1]
    for endpoint in (pool[0], pool[1], Endpoint("gone:1")):
        picker.finished(endpoint, 0.1, True)

    assert [cell.in_flight for cell in picker.cells] == [0, 0]


@every
def test_an_empty_list_gives_none(config):
    picker = config.picker([])

    assert picker.pick() is picker.choose() is picker.pick(3, [Endpoint("a:1")]) is None
    picker.started(Endpoint("a:1"))
    picker.finished(Endpoint("a:1"), 0.1, False)
    assert picker.cells == ()


@every
@pytest.mark.parametrize(
    ("pool", "rng", "says"),
    [
        ([Endpoint("a:1"), Endpoint("a:1", weight=2)], None, "twice"),
        (["a:1"], None, "Endpoint"),
        ([Endpoint("a:1")], 42, "rng"),
        (None, None, "endpoints must be a list of Endpoint objects, not None"),
        ("a:1", None, "endpoints must be a list of Endpoint objects, not 'a:1'"),
        (5, None, "endpoints must be a list of Endpoint objects, not 5"),
    ],
)
def test_bad_input_is_refused(config, pool, rng, says):
    with pytest.raises(ConfigError, match=says):
        config.picker(pool, rng=rng)


@every
@pytest.mark.parametrize("exclude", [["a:1"], "a:1", [None]])
def test_only_endpoints_can_be_excluded(config, exclude):
    """An address in place of an endpoint is named, whichever way the picker chooses, with a key and without one."""
    picker = config.picker([Endpoint("a:1"), Endpoint("b:1")])
    for key in (None, 1):
        with pytest.raises(TypeError, match=r"exclude must hold endpoints, .*not "):
            picker.pick(key, exclude)


@every
def test_configurations_are_values(config):
    """They can be compared, hashed, pickled and read."""
    copied = pickle.loads(pickle.dumps(config))

    assert copied == config
    assert hash(copied) == hash(config)
    assert type(config).__name__ in repr(config)


class Counted:
    """An rng with nothing but `random`, that counts."""

    def __init__(self):
        self.draws, self._rng = 0, random.Random(1)

    def random(self):
        self.draws += 1
        return self._rng.random()


@every
def test_an_rng_needs_only_random(config):
    rng = Counted()
    picker = config.picker([Endpoint(f"a{n}:1", weight=1 + n) for n in range(5)], rng=rng)

    assert all(picker.pick(exclude=[picker.pick()]) for _ in range(20))
    assert rng.draws


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-53])
@every
def test_the_ends_of_the_rng_are_in_range(config, extreme):
    """The least and the greatest number that `random` may return find an endpoint."""

    class Stuck:
        def random(self):
            return extreme

    for weights in ([1], [1] * 7, [1, 2, 3], [1] * 300):
        picker = config.picker([Endpoint(f"a{n}:1", weight=w) for n, w in enumerate(weights)], rng=Stuck())
        assert picker.pick() is not None
        assert len(weights) == 1 or picker.pick(exclude=[picker.pick()]) is not None


# -- from an endpoint to its counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [RoundRobin(), PeakEwma()])
def test_pickers_made_of_the_same_endpoint_objects_count_apart(config):
    """The short way leads to the newest one's counts; the others look theirs up."""
    endpoints = [Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80")]
    old, new = (config.picker(endpoints, rng=random.Random(1)) for _ in range(2))

    old.started(endpoints[0])
    new.started(endpoints[1])
    new.finished(endpoints[1], 0.1, False)
    assert [(cell.started, cell.finished) for cell in old.cells] == [(1, 0), (0, 0)]
    assert [(cell.started, cell.finished) for cell in new.cells] == [(0, 0), (1, 1)]
    old.finished(endpoints[0], 0.1, True)
    assert [cell.in_flight for cell in old.cells] == [0, 0]


@pytest.mark.parametrize("config", [RoundRobin(), PeakEwma()])
def test_another_object_of_the_same_address_counts_too(config):
    picker = config.picker([Endpoint("10.0.0.1:80")], rng=random.Random(1))
    twin = Endpoint("10.0.0.1:80", weight=3)
    elsewhere = RoundRobin().picker([Endpoint("10.0.0.1:80")]).pick()

    for endpoint in (twin, elsewhere):
        picker.started(endpoint)
        assert picker.cells[0].in_flight == 1
        picker.finished(endpoint, 0.1, False)
        assert picker.cells[0].in_flight == 0


@pytest.mark.parametrize("config", [RoundRobin(), PeakEwma()])
def test_an_endpoint_of_another_picker_is_not_counted(config):
    picker = config.picker([Endpoint("10.0.0.1:80")], rng=random.Random(1))
    stranger = config.picker([Endpoint("10.0.0.9:80")]).pick()

    picker.started(stranger)
    picker.finished(stranger, 0.1, False)
    picker.started(Endpoint("10.0.0.8:80"))
    picker.finished(Endpoint("10.0.0.8:80"), 0.1, False)
    assert picker.cells[0].started == picker.cells[0].finished == 0


def test_what_a_picker_leaves_on_an_endpoint_nobody_sees():
    endpoint, twin = Endpoint("10.0.0.1:80"), Endpoint("10.0.0.1:80")
    RoundRobin().picker([endpoint])

    assert endpoint == twin
    assert repr(endpoint) == repr(twin)
    assert pickle.dumps(endpoint) == pickle.dumps(twin)
    assert not hasattr(copy.copy(endpoint), "_cell")
