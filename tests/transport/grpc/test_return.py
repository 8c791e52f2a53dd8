"""Servers that come back: traffic follows at once, whatever back-off gRPC is in, and nobody is ejected for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from svcmesh import OutlierDetection, Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
STUBBORN = [("grpc.initial_reconnect_backoff_ms", 600_000), ("grpc.max_reconnect_backoff_ms", 600_000)]
"""gRPC alone would be back after ten minutes."""
LONG = Policy.standard().replace(idempotent=True, outlier_detection=OutlierDetection(base_ejection_time=300.0))


def _blocking(service: Service, until: Callable[[str], bool]) -> None:
    with service.grpc_channel(options=STUBBORN) as channel:
        stub = pb_grpc.ProbeStub(channel)
        while not until(stub.Unary(ping(), timeout=PATIENCE).server):
            time.sleep(0.002)


def _aio(service: Service, until: Callable[[str], bool]) -> None:
    async def run() -> None:
        async with service.grpc_aio_channel(options=STUBBORN) as channel:
            stub: Any = pb_grpc.ProbeStub(channel)
            while True:
                answer = await stub.Unary(ping(), timeout=PATIENCE)
                if until(answer.server):
                    break
                await asyncio.sleep(0.002)

    asyncio.run(run())


@pytest.mark.parametrize("drive", [_blocking, _aio])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_comes_back_is_used_at_once_and_not_ejected_again(
    grpc_servers: Servers, drive: Callable[[Service, Callable[[str], bool]], None], host: str
) -> None:
    """Long before its ejection or gRPC's back-off are over, whether its address is a number or a name."""
    ejected: list[float] = []
    back = 0.0
    with GrpcServer("phoenix") as phoenix:
        addresses = [grpc_servers[0].address, f"{host}:{phoenix.port}"]
        with service_over(addresses, LONG) as service:
            service.view.runtime.events.subscribe(lambda _: ejected.append(time.monotonic()), "endpoint.ejected")
            end = time.monotonic() + 3 * PATIENCE

            def done(server: str) -> bool:
                nonlocal back
                assert time.monotonic() < end, "no traffic"
                if server == "phoenix" and not back:
                    phoenix.kill()
                    back = float("inf")
                elif ejected and back == float("inf"):
                    phoenix.start()
                    back = time.monotonic()
                return server == "phoenix" and back <= time.monotonic()

            drive(service, done)
            took = time.monotonic() - back

    assert len(ejected) == 1
    assert took < 2 * PATIENCE  # of 300 s
