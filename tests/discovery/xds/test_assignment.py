"""What a ClusterLoadAssignment says, in our words."""

from __future__ import annotations

import pytest

from svcmesh._proto import svcmesh_xds_pb2 as wire
from svcmesh.core.endpoint import Health, Locality
from svcmesh.discovery.xds.assignment import assignment_of
from svcmesh.discovery.xds.candidate import Candidates
from svcmesh.discovery.xds.kinds import Kind
from tests.discovery.xds.decoded import decoded, good
from tests.servers.xds import resources
from tests.servers.xds.resources import DEGRADED, DRAINING, HEALTHY, TIMEOUT, UNHEALTHY, drop, endpoint, place

A, B, C, D = (f"10.0.0.{number}:80" for number in range(1, 5))


def assignment(*places, drops=()):
    return good(Kind.ENDPOINTS, resources.assignment("c", places, drops))


def weights(found):
    return {one.address: one.weight for one in found.endpoints}


def test_an_endpoint_has_its_address_its_locality_and_its_name():
    found = assignment(place([endpoint("[2001:db8::1]:80", hostname="pod-1")], "eu-1"))

    (one,) = found.endpoints
    assert (one.address, one.locality) == ("[2001:db8::1]:80", Locality("eu", "eu-1"))
    assert one.metadata == {"hostname": "pod-1"}
    assert found.name == "c"


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (0, Health.HEALTHY),
        (HEALTHY, Health.HEALTHY),
        (DEGRADED, Health.DEGRADED),
        (UNHEALTHY, Health.UNHEALTHY),
        (TIMEOUT, Health.UNHEALTHY),
        (77, Health.UNHEALTHY),
    ],
)
def test_health_is_mapped(status, health):
    assert [one.health for one in assignment(place([endpoint(A, status)])).endpoints] == [health]


def test_who_is_draining_is_left_out_without_a_word():
    found = assignment(place([A, endpoint(B, DRAINING)]))

    assert [one.address for one in found.endpoints] == [A]
    assert found.left_out == ()


def test_priorities_are_counted_without_gaps():
    found = assignment(place([C], "z", priority=7), place([A], "x"), place([B], "y", priority=3))

    assert {one.address: one.priority for one in found.endpoints} == {A: 0, B: 1, C: 2}


def test_weights_of_endpoints_stand_as_they_are_where_no_locality_has_one():
    assert weights(assignment(place([endpoint(A, weight=3), B], weight=0))) == {A: 3, B: 1}


def test_a_locality_has_its_share_whatever_the_number_of_its_endpoints():
    found = weights(assignment(place([A, B, C], "x", weight=1), place([D], "y", weight=3)))

    assert found[A] == found[B] == found[C]
    assert found[D] == pytest.approx(3 * (found[A] + found[B] + found[C]))
    assert sum(found.values()) == pytest.approx(4)  # 1 on average


def test_who_is_unhealthy_takes_nothing_from_the_share_of_its_locality():
    places = place([A, endpoint(B, UNHEALTHY)], "x", weight=1), place([C], "y", weight=1)

    found = weights(assignment(*places))
    assert found[A] == pytest.approx(found[C])


def test_a_locality_whose_endpoints_are_all_unhealthy_takes_nothing_from_the_others():
    places = place([endpoint(A, UNHEALTHY)], "x", weight=9), place([B, C], "y", weight=1)

    found = weights(assignment(*places))
    assert found[B] == found[C] == pytest.approx(1)


def test_a_locality_without_a_weight_beside_one_that_has_one_takes_nothing():
    found = assignment(place([A], "x", weight=0), place([B], "y", weight=1))

    assert list(weights(found)) == [B]
    assert found.left_out == (f"{A} is in a locality without a weight",)


def test_the_same_locality_weights_at_another_priority_are_counted_apart():
    found = weights(assignment(place([A], "x", weight=1), place([B], "x", weight=9, priority=1)))

    assert found == {A: 1, B: 1}


def test_of_one_address_twice_the_first_counts():
    found = assignment(place([A], "x", weight=0), place([A], "y", weight=0, priority=1))

    assert [one.priority for one in found.endpoints] == [0]
    assert found.left_out == (f"{A} is listed twice",)


@pytest.mark.parametrize(
    "bad", [endpoint("10.0.0.9:0"), endpoint("10.0.0.256:80"), endpoint("10.0.0.9:80", protocol=1), {1: {}}]
)
def test_an_endpoint_that_cannot_be_used_takes_no_other_one_away(bad):
    found = assignment(place([A, bad]))

    assert [one.address for one in found.endpoints] == [A]
    assert len(found.left_out) == 1
    assert "none of its endpoints can be used" in decoded(Kind.ENDPOINTS, resources.assignment("c", [place([bad])])).why


def test_a_pipe_is_a_unix_socket():
    assert [one.address for one in assignment(place([{1: {1: {2: {1: "/run/a.sock"}}}}])).endpoints] == [
        "unix:/run/a.sock"
    ]


def test_what_describes_an_endpoint_to_balancers_is_its_metadata():
    struct = {1: [{1: "version", 2: {3: "v2"}}, {1: "canary", 2: {4: 1}}, {1: "deep", 2: {5: {}}}]}
    one = endpoint(A) | {3: {1: [{1: "envoy.lb", 2: struct}, {1: "other", 2: struct}]}}

    assert dict(assignment(place([one])).endpoints[0].metadata) == {"version": "v2", "canary": True}


@pytest.mark.parametrize(
    ("drops", "share"),
    [
        ([drop("load", 5)], 0.05),
        ([drop("load", 25, 1)], 0.0025),
        ([drop("load", 1, 2)], 0.000001),
        ([drop("load", 60), drop("people", 50)], 0.8),
        ([drop("load", 0)], 0),
        ([], 0),
    ],
)
def test_each_category_is_dropped_of_what_those_before_it_left(drops, share):
    found = assignment(place([A]), drops=drops)

    assert found.drop == pytest.approx(share)
    assert len(found.endpoints) == 1


@pytest.mark.parametrize("drops", [[drop("stop", 10_000, 1)], [drop("load", 5), drop("stop", 300)]])
def test_who_is_to_drop_everything_has_no_endpoints(drops):
    found = assignment(place([A]), drops=drops)

    assert (found.endpoints, found.drop) == ((), 1)


def test_drops_of_unknown_parts_are_refused():
    content = resources.assignment("c", [place([A])], [drop("x", 1, 9)])

    assert "no denominator" in decoded(Kind.ENDPOINTS, content).why


def test_only_endpoints_that_say_something_else_are_looked_at_again():
    """And what cannot be used is told every time."""
    known: Candidates = {}

    def read(weight_of_b):
        listed = [A, endpoint(B, weight=weight_of_b), "10.0.0.256:80"]
        message = wire.UnreadAssignment.FromString(resources.assignment("c", [place(listed, weight=0)]))
        return assignment_of(message, known=known)

    first, same, other = read(1), read(1), read(2)

    assert [one is two for one, two in zip(first.endpoints, same.endpoints, strict=True)] == [True, True]
    assert [one is two for one, two in zip(first.endpoints, other.endpoints, strict=True)] == [True, False]
    assert weights(other) == {A: 1, B: 2}
    assert [len(each.left_out) for each in (first, same, other)] == [1, 1, 1]
    assert len(known) == 2
