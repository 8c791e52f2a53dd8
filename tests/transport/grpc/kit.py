"""What the gRPC tests share: servers in processes of their own, a mesh over them, and a look at what is in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from svcmesh.mesh import Mesh
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2 as pb

PATIENCE = 30.0
"""Seconds that only a hang takes."""


def ping(text: str = "x", count: int = 0) -> Any:
    """Return a request."""
    return pb.Ping(text=text, count=count)


@contextmanager
def service_over(addresses: Sequence[str], policy: Policy | None = None) -> Iterator[Service]:
    """Yield a service with these endpoints, and close its mesh; nothing may be in flight by then."""
    mesh = Mesh(discovery={"probe": list(addresses)}, policy=policy)
    service = mesh.service("probe")
    service.wait_ready(PATIENCE)
    try:
        yield service
        eventually(lambda: in_flight(service) == 0, "calls are still counted as in flight")
    finally:
        mesh.close()


def in_flight(service: Service) -> int:
    """Return the number of attempts that have started and not ended."""
    return sum(member.in_flight for member in service.view.cluster.members.values())


def started(service: Service) -> int:
    """Return the number of attempts ever started."""
    return sum(member.started for member in service.view.cluster.members.values())


def eventually(true: Callable[[], bool], message: str, seconds: float = PATIENCE) -> None:
    """Wait until ``true`` is: real processes and sockets take their time."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, message
        time.sleep(0.01)


async def soon(true: Callable[[], bool], message: str, seconds: float = PATIENCE) -> None:
    """Wait as `eventually` does, and let the loop go on meanwhile."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, message
        await asyncio.sleep(0.01)
