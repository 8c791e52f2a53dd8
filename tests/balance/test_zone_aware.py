"""Zone-aware routing: Envoy's parts of 10,000, and that every server gets the same number of calls."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Locality
from svcmesh.balance import ZoneAware
from svcmesh.balance.zone_aware import Route

A, B, C, D = (Locality("eu", zone) for zone in "abcd")


def test_the_example_of_the_reference():
    """Own 4 and 2, servers 3, 5 and 2: 45 % stay at home, the rest goes by 1,667 to 2,000."""
    route = ZoneAware(A, {A: 4, B: 2}).route({A: 3, B: 5, C: 2})

    assert route == Route((A, B, C), 4500, (0, 1667, 3667))
    assert route.shares() == pytest.approx((0.45, 0.55 * 1667 / 3667, 0.55 * 2000 / 3667))


def test_all_calls_stay_at_home_where_there_are_enough_servers():
    route = ZoneAware(B, {A: 4, B: 2}).route({A: 3, B: 5, C: 2})

    assert route.stays
    assert route.order == (B, A, C)
    assert route.shares() == (1.0, 0.0, 0.0)


def test_the_example_in_the_comments_of_envoy():
    """Clients 40, 40 and 20 %, servers 25, 50 and 25 %: what is left is 0, 10 and 5 %."""
    route = ZoneAware(A, {A: 4, B: 4, C: 2}).route({A: 2, B: 4, C: 2})

    assert route == Route((A, B, C), 6250, (0, 1000, 1500))


def test_a_zone_without_servers_sends_all_its_calls_away():
    own = {A: 5, B: 5}

    assert ZoneAware(A, own).route({B: 4, C: 4}) == Route((B, C), 0, (0, 5000))
    assert ZoneAware(A, own).route({A: 0, B: 4, C: 4}) == Route((A, B, C), 0, (0, 0, 5000))


@pytest.mark.parametrize(
    ("config", "upstream"),
    [
        (ZoneAware(A, {A: 1, B: 1}), {A: 9}),  # one locality of servers
        (ZoneAware(A, {A: 2}), {A: 9, B: 9}),  # one of clients
        (ZoneAware(A, {A: 2, B: 0}), {A: 9, B: 9}),
        (ZoneAware(A, {B: 2, C: 2}), {A: 9, B: 9}),  # the own one is not among them
        (ZoneAware(A, {A: 0, B: 2, C: 2}), {A: 9, B: 9}),
        (ZoneAware(A, {A: 1, B: 1}), {A: 3, B: 2}),  # five servers
        (ZoneAware(A, {A: 1, B: 1}, min_cluster_size=10), {A: 3, B: 6}),
    ],
)
def test_localities_are_ignored_where_they_cannot_be_compared(config, upstream):
    assert config.route(upstream) is None


def test_the_own_zone_can_be_preferred_from_a_number_of_servers_on():
    own = {A: 9, B: 1}

    assert ZoneAware(A, own, force_local_zone=3).route({A: 3, B: 6}).stays
    assert not ZoneAware(A, own, force_local_zone=4).route({A: 3, B: 6}).stays
    assert ZoneAware(A, {A: 2}, force_local_zone=1).route({A: 3, B: 6}).stays, "it needs no second zone of clients"


COUNTS = st.dictionaries(st.sampled_from([A, B, C, D]), st.integers(0, 50))


SOME = st.integers(2, 50)


@given(st.tuples(SOME, SOME, SOME), st.tuples(SOME, SOME, SOME, SOME))
def test_every_server_gets_the_same_load(clients, servers):
    """However many clients and servers are where: to within the rounding to parts of 10,000."""
    own, upstream = dict(zip((A, B, C), clients, strict=True)), dict(zip((A, B, C, D), servers, strict=True))
    got = Counter()
    for where, number in own.items():
        route = ZoneAware(where, own).route(upstream)
        for zone, share in zip(route.order, route.shares(), strict=True):
            got[zone] += number * share
    for zone, number in upstream.items():
        assert got[zone] / sum(clients) == pytest.approx(number / sum(servers), abs=0.01)


@given(COUNTS, COUNTS, st.sampled_from([A, B, C, D]))
def test_shares_add_up_to_one_wherever_somebody_is(own, servers, where):
    route = ZoneAware(where, {**own, A: 1, B: 1, where: 1}).route({**servers, C: 6, D: 0})

    assert sum(route.shares()) == pytest.approx(1.0)
    assert all(share >= 0 for share in route.shares())
    assert sorted(route.order, key=str) == sorted({**servers, C: 6, D: 0}, key=str)


def test_draws_follow_the_shares():
    route = ZoneAware(A, {A: 4, B: 2}).route({A: 3, B: 5, C: 2})
    draw = route.draw(random.Random(1))
    found = Counter(draw() for _ in range(30_000))

    for place, share in enumerate(route.shares()):
        assert found[place] == pytest.approx(30_000 * share, abs=500)  # five standard deviations


class Drawn:
    """Chance that says what a test wants."""

    def __init__(self, *draws):
        self.random = iter(draws).__next__


@pytest.mark.parametrize(
    ("draws", "place"),
    [((0.4499,), 0), ((0.45, 0.0), 1), ((0.45, 1666 / 3667), 1), ((0.45, 1667.5 / 3667), 2), ((0.99, 0.9999), 2)],
)
def test_the_edges_of_the_buckets_are_envoys(draws, place):
    route = ZoneAware(A, {A: 4, B: 2}).route({A: 3, B: 5, C: 2})

    assert route.draw(Drawn(*draws))() == place


def test_where_rounding_leaves_nothing_any_zone_will_do():
    route = Route((A, B, C), 9_999, (0, 0, 0))

    assert route.draw(Drawn(0.99995, 0.7))() == 2
    assert sum(route.shares()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("locality", {"locality": "eu"}),
        ("own", {"own": 3}),
        ("own", {"own": {"eu": 3}}),
        ("own", {"own": {A: -1}}),
        ("min_cluster_size", {"min_cluster_size": -1}),
        ("force_local_zone", {"force_local_zone": 0}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, wrong):
    with pytest.raises(ConfigError, match=field):
        ZoneAware(**{"locality": A, "own": {A: 1}, **wrong})


def test_it_can_be_compared_hashed_and_copied():
    config = ZoneAware(A, {A: 1, B: 2})

    assert config == ZoneAware(A, [(A, 1), (B, 2)])
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(ZoneAware(A, {A: 1, B: 2}))
