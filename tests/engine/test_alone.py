"""A cluster of one endpoint without discovery."""

from __future__ import annotations

from svcmesh.balance import LocalityWeighted, SlowStart
from svcmesh.core.endpoint import PICKED, Locality
from svcmesh.engine.alone import alone
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy


def test_it_has_its_one_endpoint_from_the_start() -> None:
    """No thread and no discovery are needed to enter it."""
    runtime = Runtime()
    cluster = alone("alone", runtime)
    view = View(cluster, Policy())
    member = view.enter(0.0)

    assert member is not None
    assert member.endpoint is PICKED
    member.finished += 1
    assert cluster.ready
    assert not runtime.worker.running


def test_what_a_policy_says_of_localities_is_nothing_to_a_function() -> None:
    """One policy may stand around a service and a function."""
    elsewhere = LocalityWeighted({Locality("eu"): 1})
    view = View(alone("alone", Runtime()), Policy(locality=elsewhere, slow_start=SlowStart(30.0)))
    member = view.enter(0.0)

    assert member is not None
    member.finished += 1
