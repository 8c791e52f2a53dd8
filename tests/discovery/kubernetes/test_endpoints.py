"""Which endpoints the slices of a service amount to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.kubernetes.endpoints import Reading, endpoints_of
from svcmesh.discovery.kubernetes.slices import slice_of
from tests.servers.kubernetes.objects import endpoint, endpoint_slice, port

READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
ILL = {"ready": False, "serving": False, "terminating": False}
GONE = {"ready": False, "serving": False, "terminating": True}


def slices(*listed, **fields):
    """Return slices, one for each list of endpoints."""
    return [named(f"s{number}", one, **fields) for number, one in enumerate(listed)]


def named(name, endpoints, **fields):
    found = endpoint_slice("prod", name, "orders", endpoints, **fields)
    found["metadata"]["resourceVersion"] = "1"
    return slice_of(found)


def found(listed, reading=None, routed=lambda _: True):
    return endpoints_of(listed, reading or Reading(), routed)


def addresses(listed, reading=None, **more):
    return [e.address for e in found(listed, reading, **more).endpoints]


# -- who takes calls -----------------------------------------------------------------------------------------------


def test_slices_are_joined_and_each_address_stands_once():
    two = slices([endpoint("10.0.0.2"), endpoint("10.0.0.1")], [endpoint("10.0.0.1"), endpoint("10.0.0.3")])
    assert addresses(two) == ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]


@pytest.mark.parametrize("order", [1, -1])
def test_ready_in_any_slice_is_ready(order):
    moving = slices([endpoint("10.0.0.1", **ILL)], [endpoint("10.0.0.1")], [endpoint("10.0.0.1", **LEAVING)])
    assert addresses(moving[::order]) == ["10.0.0.1:8080"]


def test_only_who_is_ready_takes_calls():
    some = slices([endpoint("10.0.0.1"), endpoint("10.0.0.2", **LEAVING), endpoint("10.0.0.3", **ILL)])
    assert addresses(some) == ["10.0.0.1:8080"]


def test_if_nobody_is_ready_those_who_are_about_to_go_do():
    some = slices([endpoint("10.0.0.1", **LEAVING), endpoint("10.0.0.2", **ILL), endpoint("10.0.0.3", **GONE)])
    assert addresses(some) == ["10.0.0.1:8080"]


@pytest.mark.parametrize(
    ("listed", "sure"),
    [
        ([], False),  # there is no such service, or somebody has deleted its slices
        (slices(None), True),  # scaled to nothing
        (slices([], []), True),
        (slices([endpoint("10.0.0.1", **ILL)]), False),  # pods there are: nodes that nobody hears of look like this
        ([named("x", [endpoint("10.0.0.1")], address_type="?")], False),
    ],
)
def test_nobody_is_sure_only_if_slices_say_so(listed, sure):
    assert found(listed) == ((), found(listed).left_out, sure)


def test_where_it_runs_and_what_it_is_called_is_told():
    (one,) = found(slices([endpoint("10.0.0.1", pod="orders-1", zone="b")])).endpoints
    assert (one.locality, dict(one.metadata)) == (Locality("", "b"), {"pod": "orders-1", "node": "worker-b"})
    assert (one.weight, one.priority) == (1, 0)


# -- ports ---------------------------------------------------------------------------------------------------------

SEVERAL = [port(80, "http"), port(9090, "grpc"), port(53, "dns", "UDP")]
ONE = [endpoint("10.0.0.1")]


@pytest.mark.parametrize(
    ("ports", "wanted", "address"),
    [
        ([port(80, "http")], None, "10.0.0.1:80"),
        ([port(80)], None, "10.0.0.1:80"),
        ([port(80, "http"), port(53, "dns", "UDP")], None, "10.0.0.1:80"),
        (SEVERAL, "http", "10.0.0.1:80"),
        (SEVERAL, "grpc", "10.0.0.1:9090"),
        (SEVERAL, 9090, "10.0.0.1:9090"),
        ([], 7000, "10.0.0.1:7000"),
        ([port(None)], 7000, "10.0.0.1:7000"),
        ([port(None, "any"), port(80, "http")], 7000, "10.0.0.1:7000"),
    ],
)
def test_a_port_is_the_only_one_or_the_one_that_is_named(ports, wanted, address):
    assert addresses([named("x", ONE, ports=ports)], Reading(wanted)) == [address]


@pytest.mark.parametrize(
    ("ports", "wanted", "told"),
    [
        (SEVERAL, None, r"has http=80, grpc=9090: say which one, as in k8s://prod/orders:http"),
        (SEVERAL, "dns", r"no port 'dns' of TCP: it has http=80, grpc=9090$"),
        (SEVERAL, 8080, r"no port 8080 of TCP: it has http=80, grpc=9090; a number is that of the pods"),
        ([], None, "has no port of TCP"),
        ([], "http", "has no port of TCP"),
        ([port(None, "any")], "any", "it has any=any"),
        ([port(n, f"p{n}") for n in range(1, 30)], None, r"p10=10, …: say"),
    ],
)
def test_a_port_that_is_not_there_is_an_error_that_names_those_that_are(ports, wanted, told):
    with pytest.raises(DiscoveryError, match=told):
        found([named("x", ONE, ports=ports)], Reading(wanted))


def test_without_endpoints_no_port_is_missed():
    assert addresses([named("x", [], ports=SEVERAL)]) == []
    assert addresses([named("x", [endpoint("10.0.0.1", **ILL)], ports=SEVERAL)]) == []


def test_pods_may_have_different_numbers_for_one_name():
    old = named("a", [endpoint("10.0.0.1")], ports=[port(80, "http")])
    new = named("b", [endpoint("10.0.0.2")], ports=[port(8080, "http")])
    other = named("c", [endpoint("10.0.0.3")], ports=[port(9, "discard")])
    seen = found([old, new, other], Reading("http"))
    assert [e.address for e in seen.endpoints] == ["10.0.0.1:80", "10.0.0.2:8080"]
    assert seen.left_out == ("slice c: has discard=9",)


# -- kinds of addresses --------------------------------------------------------------------------------------------

DUAL = [
    named("four", [endpoint("10.0.0.1", pod="a"), endpoint("10.0.0.2", pod="b")]),
    named("six", [endpoint("fd00::1", pod="a"), endpoint("fd00::3", pod="c")], address_type="IPv6"),
    named("name", [endpoint("db.example.org", pod="d")], address_type="FQDN"),
]


@pytest.mark.parametrize(
    ("families", "routed", "expected"),
    [
        ((4, 6), "46", ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::3]:8080", "db.example.org:8080"]),
        ((6, 4), "46", ["10.0.0.2:8080", "[fd00::1]:8080", "[fd00::3]:8080", "db.example.org:8080"]),
        ((4, 6), "6", ["[fd00::1]:8080", "[fd00::3]:8080", "db.example.org:8080"]),
        ((4, 6), "4", ["10.0.0.1:8080", "10.0.0.2:8080", "db.example.org:8080"]),
        ((4, 6), "", ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::3]:8080", "db.example.org:8080"]),
        ((4,), "6", ["10.0.0.1:8080", "10.0.0.2:8080", "db.example.org:8080"]),
        ((6,), "46", ["[fd00::1]:8080", "[fd00::3]:8080", "db.example.org:8080"]),
    ],
)
def test_a_pod_of_both_ip_versions_is_one_endpoint_and_who_cannot_be_reached_is_none(families, routed, expected):
    def has_route(address):
        return ("6" if ":" in address else "4") in routed

    assert addresses(DUAL, Reading(families=families), routed=has_route) == expected


def test_what_cannot_be_dialled_is_told_and_takes_nobody_away():
    seen = found(slices([endpoint("not an address"), endpoint("10.0.0.999"), endpoint("10.0.0.1")]))
    assert [e.address for e in seen.endpoints] == ["10.0.0.1:8080"]
    assert len(seen.left_out) == 2


# -- hints ---------------------------------------------------------------------------------------------------------

HINTED = slices([endpoint("10.0.0.1", zone="a", hints=["a"]), endpoint("10.0.0.2", zone="b", hints=["b", "c"])])


@pytest.mark.parametrize(
    ("listed", "zone", "priorities"),
    [
        (HINTED, "a", [0, 1]),
        (HINTED, "c", [1, 0]),
        (HINTED, "", [0, 0]),
        (HINTED, "elsewhere", [0, 0]),
        (slices([endpoint("10.0.0.1", hints=["a"]), endpoint("10.0.0.2", zone="b")]), "a", [0, 0]),
        (slices([endpoint("10.0.0.1", hints=["a"]), endpoint("10.0.0.2", hints=[])]), "a", [0, 0]),
    ],
)
def test_hints_make_standbys_of_others_and_count_only_if_all_have_one(listed, zone, priorities):
    assert [e.priority for e in found(listed, Reading(zone=zone)).endpoints] == priorities


def test_who_takes_no_calls_needs_no_hint():
    listed = slices([endpoint("10.0.0.1", hints=["a"]), endpoint("10.0.0.2", hints=["b"]), endpoint("10.0.0.3", **ILL)])
    assert [e.priority for e in found(listed, Reading(zone="a")).endpoints] == [0, 1]


def test_endpoints_are_used_again_where_nothing_has_changed():
    made = {}
    before = endpoints_of(slices([endpoint("10.0.0.1"), endpoint("10.0.0.2")]), made=made).endpoints
    changed = [endpoint("10.0.0.1"), endpoint("10.0.0.2", zone="b"), endpoint("10.0.0.3")]
    after = endpoints_of(slices(changed), made=made).endpoints
    assert after[0] is before[0]
    assert after[1].locality == Locality(zone="b")
    assert endpoints_of(slices(changed[:1]), made=made).endpoints == before[:1]
    assert list(made) == ["10.0.0.1:8080"]


# -- laws ----------------------------------------------------------------------------------------------------------

_endpoints = st.lists(
    st.builds(
        lambda number, state, hints: endpoint(f"10.0.0.{number}", pod=f"p{number}", hints=hints, **state),
        st.integers(1, 6),
        st.sampled_from([READY, LEAVING, ILL, GONE]),
        st.sampled_from([None, ["a"], ["b"], ["a", "b"]]),
    ),
    max_size=6,
)


@given(st.lists(_endpoints, max_size=4), st.sampled_from(["", "a", "x"]), st.randoms(use_true_random=False))
def test_how_endpoints_are_cut_into_slices_and_ordered_does_not_matter(listed, zone, random):
    """What is ready is exactly what is offered; priorities only part it; any order of slices gives the same."""
    whole = slices(*listed)
    shuffled = list(whole)
    random.shuffle(shuffled)
    reading = Reading(zone=zone)
    seen = found(whole, reading)
    assert [e.address for e in seen.endpoints] == addresses(shuffled, reading)
    entries = [entry for one in whole for entry in one.entries]
    ready = {entry.host for entry in entries if entry.ready}
    leaving = {entry.host for entry in entries if entry.draining}
    assert {e.host for e in seen.endpoints} == (ready or leaving)
    assert not seen.endpoints or 0 in {e.priority for e in seen.endpoints}
    made = {}
    endpoints_of(whole[:1], Reading(zone="b"), made=made)
    assert endpoints_of(whole, reading, lambda _: True, made) == seen, "what was made before makes no difference"
