"""The stage: what acts do reaches the processes and the mesh."""

from __future__ import annotations

import signal
from typing import cast

import pytest

from svcmesh import Endpoint, Mesh, Policy
from svcmesh.cli.demo.acts import GREETERS, ORDERS
from svcmesh.cli.demo.fleet import Fleet
from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.demo.record import INSTANCE
from svcmesh.cli.demo.stage import POLICY, ProcessStage
from svcmesh.policy.fault import FaultTarget


class Notes:
    """A fleet without processes."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.failure: str | None = None

    def start(self, name: str) -> None:
        self.done.append(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.done.append((name, number))

    def failed(self) -> str | None:
        return self.failure


def named(*names: str) -> list[Endpoint]:
    """Return an endpoint for each name."""
    return [Endpoint(f"127.0.0.1:{port}", metadata={INSTANCE: name}) for port, name in enumerate(names, start=1)]


def test_signals_reach_the_servers_named() -> None:
    """Each verb is its signal, for each server that is named."""
    fleet = Notes()
    with Mesh({}) as mesh, ProcessStage(cast("Fleet", fleet), mesh) as stage:
        stage.start("a-1", "a-2")
        stage.kill("a-1")
        stage.freeze("a-2")
        stage.thaw("a-2")

    assert fleet.done == ["a-1", "a-2", ("a-1", signal.SIGKILL), ("a-2", signal.SIGSTOP), ("a-2", signal.SIGCONT)]


def test_a_disturbance_hits_one_server_until_it_is_calmed() -> None:
    """30 % aborts and 200 ms on each attempt at the server named, and at no other; none is left after the block."""
    with Mesh({"greeter": named("greeter-1", "greeter-2")}) as mesh:
        service = mesh.service("greeter")
        with ProcessStage(cast("Fleet", Notes()), mesh) as stage:
            stage.disturb("greeter-2")
            (fault,) = service.view.cluster.faults
            assert [fault.hits(FaultTarget("greeter", endpoint)) for endpoint in service.endpoints] == [False, True]
            assert (fault.scope, fault.abort and fault.abort.percent) == ("attempt", 30)
            assert (fault.delay and fault.delay.seconds) == 0.2
            stage.calm()
            assert mesh.state()["services"]["greeter"]["faults"] == 0
            stage.disturb("greeter-1")

        assert mesh.state()["services"]["greeter"]["faults"] == 0


def test_missing_servers_are_named() -> None:
    """Who has not registered is missing; a server that ended by itself is an error that says why."""
    fleet = Notes()
    listed = {"greeter": named(*GREETERS[1:]), "orders": named(*ORDERS)}
    with Mesh(listed) as mesh, ProcessStage(cast("Fleet", fleet), mesh) as stage:
        stage.start(*GREETERS, *ORDERS)
        assert stage.missing() == {GREETERS[0]}
        stage.start("greeter-4")
        stage.kill(GREETERS[0])
        assert stage.missing() == {"greeter-4"}
        fleet.failure = "server greeter-1 ended with status 1: no free port"
        with pytest.raises(DemoError, match="no free port"):
            stage.missing()


def test_the_policy_is_the_standard_one_but_for_patience() -> None:
    """What the demo shows is what users get: only the time per attempt, and that all calls may be repeated, differ."""
    assert Policy.standard().replace(per_try_timeout=POLICY.per_try_timeout, idempotent=True) == POLICY
