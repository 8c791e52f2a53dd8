"""Priorities from end to end: a standby takes over from a server that is gone, and gives back when it has returned."""

from __future__ import annotations

import socket

from svcmesh import PICKED, Endpoint, Mesh
from tests.servers.ports import HeldPort
from tests.transport.grpc.kit import eventually


def test_a_standby_takes_over_without_a_failed_call_and_gives_back() -> None:
    """Connects are refused at first and go elsewhere; then the endpoint is ejected, and probed until it answers."""
    with HeldPort() as gone, socket.create_server(("127.0.0.1", 0)) as standby:
        first = Endpoint(gone.address)
        second = Endpoint(f"127.0.0.1:{standby.getsockname()[1]}", priority=1)
        with Mesh({"orders": [first, second]}) as mesh:

            @mesh.service("orders").guard
            def ask(*, endpoint: Endpoint = PICKED) -> int:
                socket.create_connection((endpoint.host, endpoint.port), 5).close()
                return endpoint.priority

            def loads() -> list[int]:
                return [level["load"] for level in mesh.state()["services"]["orders"]["priorities"]]

            assert [ask() for _ in range(10)] == [1] * 10
            assert loads() == [0, 100]
            assert f"{first.address}: priority 0, ejected for" in mesh.explain("orders")

            with socket.create_server((gone.host, gone.number)):
                eventually(lambda: loads() == [100, 0], "the first priority is not back")
                assert ask() == 0
                assert f"{second.address}: priority 1, stands by" in mesh.explain("orders")
