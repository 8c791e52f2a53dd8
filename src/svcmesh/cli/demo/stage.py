"""Where acts happen: the servers' processes, and the mesh that calls them."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from svcmesh.cli.demo.fleet import Fleet
from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.demo.record import name_of
from svcmesh.cli.demo.registry_process import RegistryProcess
from svcmesh.mesh import Mesh
from svcmesh.policy.fault import Abort, Delay, Fault, FaultTarget
from svcmesh.policy.policy import Policy

SERVICES = ("greeter", "orders")

POLICY = Policy.standard().replace(per_try_timeout=1.0, idempotent=True)
"""The standard policy, with less patience for one attempt: a frozen server is to show within its act of six seconds."""


class ProcessStage:
    """The stage of `acts`, made of a fleet and a mesh, and the registry where that is the demo's own.

    Leaving its block ends all disturbances.
    """

    def __init__(self, fleet: Fleet, mesh: Mesh, registry: RegistryProcess | None = None) -> None:
        self._fleet = fleet
        self._registry = registry
        self._mesh = mesh
        self._faults = ExitStack()
        self._awaited: set[str] = set()

    def start(self, *names: str) -> None:
        """Start servers; they register by themselves."""
        for name in names:
            self._fleet.start(name)
        self._awaited.update(names)

    def kill(self, *names: str) -> None:
        """End servers with SIGKILL."""
        self._awaited.difference_update(names)
        self._signal(signal.SIGKILL, names)

    def freeze(self, *names: str) -> None:
        """Stop servers with SIGSTOP."""
        self._signal(signal.SIGSTOP, names)

    def thaw(self, *names: str) -> None:
        """Let servers run on with SIGCONT."""
        self._signal(signal.SIGCONT, names)

    def disturb(self, name: str) -> None:
        """Delay each attempt at ``name`` by 200 ms, and abort 30 % of them."""

        def at_it(target: FaultTarget) -> bool:
            return target.endpoint is not None and name_of(target.endpoint) == name

        fault = Fault(abort=Abort("UNAVAILABLE", percent=30), delay=Delay(0.2), scope="attempt", match=at_it)
        self._faults.enter_context(self._mesh.faults.inject(name.rpartition("-")[0], fault))

    def calm(self) -> None:
        """End all disturbances."""
        self._faults.close()

    def kill_registry(self) -> None:
        """End the registry with SIGKILL, where it is the demo's own."""
        if self._registry is not None:
            self._registry.kill()

    def start_registry(self) -> None:
        """Start it again."""
        if self._registry is not None:
            self._registry.start()

    def missing(self) -> set[str]:
        """Return which of the servers that were started have not registered yet.

        Raises:
            DemoError: a server, or the registry, has ended by itself.
        """
        failure = self._fleet.failed() or (self._registry and self._registry.failed())
        if failure is not None:
            raise DemoError(failure)
        seen = {name_of(endpoint) for service in SERVICES for endpoint in self._mesh.service(service).endpoints}
        self._awaited -= seen
        return {*self._awaited}

    def __enter__(self) -> Self:
        """Return the stage."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all disturbances."""
        self.calm()

    def _signal(self, number: signal.Signals, names: tuple[str, ...]) -> None:
        for name in names:
            self._fleet.signal(name, number)
