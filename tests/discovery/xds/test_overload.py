"""What clusters want dropped, as one fault of the policy."""

from __future__ import annotations

import pytest

from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.found import Reader
from svcmesh.discovery.xds.overload import faults_for, faults_of
from svcmesh.discovery.xds.path import Part, Path
from svcmesh.policy.fault import Abort, Fault

A, B = (Endpoint(f"10.0.0.{number}:80") for number in (1, 2))


def part(drop, share=1.0, tier=0, endpoints=(A,)):
    return Part(Assignment("c", () if drop == 1 else endpoints, (), drop), share, tier)


def percent(*parts):
    """Return how much is dropped, and how many wishes are told instead."""
    faults, told = faults_of(parts)
    return sum(fault.percent for fault in faults), len(told)


def test_a_call_is_dropped_before_anything_is_done_for_it():
    assert faults_for(0.2) == (Fault(abort=Abort("UNAVAILABLE"), percent=20.0, scope="call"),)
    assert faults_for(0.0) == ()


@pytest.mark.parametrize(
    ("parts", "dropped"),
    [
        ((part(0.0),), 0),
        ((part(0.8),), 80),
        ((part(0.000001),), 0.0001),
        ((part(0.4, 0.25), part(0.0, 0.75)), 10),
        ((part(0.4, 0.25), part(0.8, 0.75)), 70),
        ((part(1, 0.25), part(0.0, 0.75)), 25),
        ((part(1),), 0),
        ((part(0.5, endpoints=()), part(0.2, tier=1)), 20),
        ((), 0),
    ],
)
def test_clusters_that_share_the_calls_drop_as_much_as_they_would_one_by_one(parts, dropped):
    """Where there are no endpoints there is nothing to drop."""
    assert percent(*parts) == (pytest.approx(dropped), 0)


def test_who_stands_in_for_others_has_no_say_and_that_is_told():
    assert percent(part(0.1), part(0.5, tier=1), part(0.0, tier=2), part(1, tier=3)) == (10, 1)


def test_it_is_sent_beside_what_the_route_says_and_goes_again():
    reader = Reader(silent, "orders")
    found = [
        reader.read(Path(parts=[part(drop)], policy={"timeout": 1.0}), "1").policy for drop in (0.0, 0.5, 0.25, 0.0)
    ]

    assert [policy["timeout"] for policy in found] == [1.0] * 4
    assert [sum(fault.percent for fault in policy.get("faults", ())) for policy in found] == [0, 50, 25, 0]
