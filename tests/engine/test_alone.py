"""A cluster of one endpoint without discovery."""

from __future__ import annotations

from svcmesh.core.endpoint import PICKED
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
