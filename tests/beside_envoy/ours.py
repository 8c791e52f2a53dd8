"""svcmesh as the proxy is asked: the same requests, with the same headers, lead to the same servers."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Self

import httpx

import svcmesh
from svcmesh import HealthCheck, OutlierDetection, Policy
from svcmesh.balance import HeaderBasedSessionState, RoundRobin, StatefulSession
from svcmesh.testing import FakeClock
from tests.servers.envoy_proxy import PATIENCE


class Ours:
    """A service of these hosts, and a client of it.

    Attributes:
        clock: of the mesh; it stands still. ejected: what was, as type and address, in this order.
        checked: how many health checks were passed.
    """

    def __init__(self, hosts: list[str], outliers: OutlierDetection, check: HealthCheck | None = None) -> None:
        session = StatefulSession(HeaderBasedSessionState("x-endpoint"), strict=True)
        policy = Policy(
            outlier_detection=outliers, load_balancer=RoundRobin(), stateful_session=session, health_check=check
        )
        self.clock = FakeClock(autojump=False)
        self.ejected: list[tuple[str, str]] = []
        self._mesh = svcmesh.Mesh({"orders": hosts}, policy=policy, clock=self.clock, rng=random.Random(1))
        self._mesh.events.subscribe(self._note, "endpoint.ejected")
        self.checked = 0
        self._mesh.events.subscribe(self._count, "health_check.finished")
        self._service = self._mesh.service("orders")
        self._patient = self._service.http_client()
        self._hasty = self._service.with_policy(policy.replace(per_try_timeout=PATIENCE)).http_client()

    def call(self, **headers: str) -> str | None:
        """Return which server answered, if any."""
        client = self._hasty if headers.get("answer") == "hang" else self._patient
        try:
            response = client.get("/", headers={"x-" + name: value for name, value in headers.items()})
        except (svcmesh.NoEndpoints, httpx.TransportError):
            return None
        found: str | None = response.headers.get("x-server")
        return found

    def out(self) -> set[str]:
        """Return who is out of rotation now."""
        endpoints = self._mesh.state()["services"]["orders"]["endpoints"]
        return {each["address"] for each in endpoints if each["ejected"]}

    def _note(self, event: Any) -> None:
        self.ejected.append((event.reason, event.endpoint.address))

    def _count(self, event: Any) -> None:
        self.checked += bool(event.passed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patient.close()
        self._hasty.close()
        self._mesh.close()
