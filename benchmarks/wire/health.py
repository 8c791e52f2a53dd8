"""Health checks of a thousand endpoints every ten seconds: what share of one core they take.

``first`` are the first ten seconds, in which connections are made, ``later`` those that follow, with connections that
are kept where the process may open enough files. Each way runs in a process of its own, beside servers in another. The
row of httpx is the same worker with a transport of httpx for each endpoint, as whoever writes such a check by hand has
it; ``limit`` is what our checks by HTTP may take.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.wire.servers import running
from svcmesh import GrpcHealthCheck, HealthCheck, HttpHealthCheck, Mesh, Policy, TcpHealthCheck
from svcmesh.core.endpoint import Endpoint
from svcmesh.policy.health.finding import Unwell

INTERVAL = 10.0
LIMIT = 15.0
WAYS = ("HTTP", "HTTP, httpx", "gRPC", "TCP", "async function", "plain function")


def rows(seconds: float = INTERVAL, endpoints: int = 1000) -> Iterator[dict[str, Any]]:
    """Yield a row for each way to ask. Keys: way, endpoints, checks (a second), first, later (% of a core), limit, ok.

    Args:
        seconds: the interval, and how long each phase is observed. endpoints: how many, at most 1000.
    """
    _allow_files()
    with running("wide-http", count=1) as http, running("wide", count=1) as grpc:
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.wire.health", way, str(seconds)]
            done = subprocess.run(  # noqa: S603 - this module
                command,
                input=json.dumps((grpc if way == "gRPC" else http)[:endpoints]),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            limit = LIMIT if way == "HTTP" else None
            yield {"way": way, **found, "limit": limit, "ok": limit is None or found["later"] <= limit}


def measure(way: str, seconds: float, addresses: list[str]) -> dict[str, Any]:
    """Check these endpoints for two intervals; return a row."""
    check = HealthCheck(interval=seconds, initial_jitter=seconds, interval_jitter_percent=0, timeout=5.0, **_kind(way))
    with Mesh({"orders": addresses}, policy=Policy(health_check=check)) as mesh:
        if way == "HTTP, httpx":
            mesh._runtime.asker = HttpxAsker  # noqa: SLF001 - another way to ask in the place of ours
        service = mesh.service("orders")
        with service.attempt():
            pass  # the first call starts the checks
        first = _share(seconds)
        later = _share(seconds)
        state = mesh.state()["services"]["orders"]["endpoints"]
        assert all(endpoint["check"]["passed"] for endpoint in state), "all servers are well"
    return {"endpoints": len(addresses), "checks": len(addresses) / seconds, "first": first, "later": later}


def _kind(way: str) -> dict[str, Any]:
    async def awaited(endpoint: Endpoint) -> bool:
        return bool(endpoint.address)

    def plain(endpoint: Endpoint) -> bool:
        return bool(endpoint.address)

    kinds: dict[str, dict[str, Any]] = {
        "gRPC": {"grpc_health_check": GrpcHealthCheck()},
        "TCP": {"tcp_health_check": TcpHealthCheck()},
        "async function": {"custom_health_check": awaited},
        "plain function": {"custom_health_check": plain},
    }
    return kinds.get(way, {"http_health_check": HttpHealthCheck("/healthz")})


class HttpxAsker:
    """Asks by httpx: a transport for each endpoint, because one pool looks at all its connections for each request."""

    def __init__(self, config: HealthCheck, service: str) -> None:
        self._path = "/healthz"
        self._timeout = dict.fromkeys(("connect", "read", "write", "pool"), config.timeout)
        self._host = service
        self._kept: dict[str, Any] = {}

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when the answer is a 200."""
        import httpx

        transport = self._kept.get(endpoint.address)
        if transport is None:
            limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
            transport = self._kept[endpoint.address] = httpx.AsyncHTTPTransport(verify=False, limits=limits)
        request = httpx.Request(
            "GET",
            f"http://{endpoint.address}{self._path}",
            headers={"host": self._host},
            extensions={"timeout": self._timeout},
        )
        response = await transport.handle_async_request(request)
        await response.aread()
        if response.status_code != 200:
            raise Unwell(f"HTTP {response.status_code}", answered=True)
        return False

    def forget(self, endpoint: Endpoint) -> None:
        """Keep it: the process ends soon."""

    def close(self) -> None:
        """Keep all: the process ends now."""


def _share(seconds: float) -> float:
    began, used = time.monotonic(), time.process_time()
    threading.Event().wait(seconds)
    return round(100 * (time.process_time() - used) / (time.monotonic() - began), 2)


def _allow_files() -> None:
    """Let this process and its children open as many files as the system lets them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], float(sys.argv[2]), json.load(sys.stdin))), flush=True)
