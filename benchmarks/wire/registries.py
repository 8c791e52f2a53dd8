"""What it takes to follow a registry: ``python -m benchmarks.wire.registries``.

- ``change to pick``: the only instance of a service gets another address in the registry; milliseconds from before that
  is written until `Service.pick` returns it, the median and the worst of twenty. 50 of them are waited for, in case
  more changes come. A file is looked at 25 times a second, the embedded registry four times; the others tell.
- ``1,000 services``: what a process has more than before, once it watches as many services of one mesh.
- ``first snapshot``, ``later snapshot``: an answer with 10,000 endpoints becomes endpoints, these become a snapshot,
  and that is put in force under the standard policy: debouncer, members, pickers. What all of it takes beyond
  `json.loads` of the same bytes is our own share, as a multiple of those `json.loads`, in turns in one process and in
  time on the processor. Nothing is remembered when the first one comes; a later one is a whole answer again, in which
  ten endpoints have changed: where the others are not even parsed again, all of it may take less than `json.loads`, and
  our own share is less than nothing. Protobuf stands beside `json.loads` of the same answer in JSON.
  Others than Consul say so little of an endpoint that `json.loads` is done with it in one to three microseconds. A bare
  object with slots and a dict takes 0.4 of one, and a step of Python some 0.04; to read, check and count an endpoint
  are a hundred such steps and more, so that a first answer stays above the limit there.
- ``stall``: how long one thread that calls without a pause has to wait while such answers of Consul are read and put in
  force twice a second; the value is what 99.9 % of the calls take at most. `json.loads` itself lets nobody else run, so
  its stalls alone are shown, too. The longest that lets nobody run is a full collection of garbage: of a process with
  these endpoints 40 ms, of the same one without them 23.

Consul and etcd are real ones, where ``consul`` and ``etcd`` are in PATH, or named by SVCMESH_TEST_CONSUL and
SVCMESH_TEST_ETCD; `FakeConsul` and xDS, a control plane of the tests, run in a process of their own, too.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.micro import snapshots
from benchmarks.micro.snapshots import row
from benchmarks.wire.scale import held
from svcmesh import Mesh
from svcmesh.core.clock import SYSTEM
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry
from tests.servers.consul_agent import NO_CONSUL, ConsulProcess, real_consul
from tests.servers.etcd_process import NO_ETCD, Etcd, etcd_binary
from tests.servers.xds.control_plane import ControlPlane

CHANGES = 20
SERVICES = 1000
LIMIT = 100.0
SERVICE = "orders"
_PAUSE = 0.2  # seconds between two changes: none is part of the burst before it
_PATIENCE = 30.0

Change = Callable[[int], object]
"""Gives the instance this port."""

Registry = Callable[[Path], AbstractContextManager[tuple[str, Change]]]
"""Runs a registry with its files in a directory; gives the URI that leads there, and what changes it."""


def rows(changes: int = CHANGES, services: int = SERVICES, rounds: int = snapshots.ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield a row for each thing that is measured. Keys: what, registry, value, worst, unit, limit, ok.

    Args:
        changes: how many are waited for in each registry. services: how many one mesh watches.
        rounds: how often each snapshot is measured.
    """
    missing = {"etcd": NO_ETCD if etcd_binary() is None else "", "Consul": NO_CONSUL if real_consul() is None else ""}
    for name, registry in REGISTRIES.items():
        if missing.get(name):
            yield row("change to pick", name, None, None, missing[name], LIMIT)
            continue
        with tempfile.TemporaryDirectory() as directory, registry(Path(directory)) as (uri, change):
            found = sorted(_delays(uri, change, changes))
            limit = None if name == "local" else LIMIT
            yield row("change to pick", name, statistics.median(found), found[-1], "ms", limit)
    yield from _many(services, "FakeConsul", None)
    if not missing["Consul"]:
        yield from _many(services, "Consul", real_consul())
    yield from snapshots.costs(rounds)
    yield from snapshots.stalls(min(snapshots.SECONDS, float(changes)))


def _delays(uri: str, change: Change, changes: int) -> Iterator[float]:
    """Yield the milliseconds from each change to the first pick that knows of it."""
    change(1000)
    with Mesh(uri) as mesh:
        service = mesh.service(SERVICE)
        service.wait_ready(_PATIENCE)
        _await_pick(service.pick, 1000)
        for port in range(1001, 1001 + changes):
            time.sleep(_PAUSE + 0.017 * (port % 20))  # at no time of a look in particular
            began = time.perf_counter()
            change(port)
            _await_pick(service.pick, port)
            yield (time.perf_counter() - began) * 1e3


def _await_pick(pick: Callable[[], Any], port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while pick().port != port:
        assert time.monotonic() < end, "the change is never seen"
        time.sleep(0.0005)


@contextmanager
def _consul(binary: str | None, directory: Path) -> Generator[tuple[str, Change]]:  # noqa: ARG001 - it has no files
    with ConsulProcess(binary) as consul:
        body = {"Name": SERVICE, "ID": "one", "Address": "127.0.0.1"}
        yield consul.uri, lambda port: consul.put("/v1/agent/service/register", {**body, "Port": port})


@contextmanager
def _etcd(directory: Path) -> Generator[tuple[str, Change]]:
    with Etcd(directory) as etcd:
        yield f"etcd://{etcd.address}", lambda port: etcd.put(f"{SERVICE}/one", f"127.0.0.1:{port}")


@contextmanager
def _xds(directory: Path) -> Generator[tuple[str, Change]]:
    with ControlPlane() as plane:
        uri = f"xds:///?bootstrap={plane.bootstrap(directory / 'bootstrap.json')}"
        yield uri, lambda port: plane.put(SERVICE, [f"127.0.0.1:{port}"])


@contextmanager
def _file(directory: Path) -> Generator[tuple[str, Change]]:
    path = directory / "mesh.json"
    yield f"file://{path}", lambda port: path.write_text(json.dumps({SERVICE: [f"127.0.0.1:{port}"]}))


@contextmanager
def _local(directory: Path) -> Generator[tuple[str, Change]]:
    root = directory / "registry"
    root.mkdir(mode=0o700)
    registry = LocalRegistry(str(root), clock=SYSTEM)

    def change(port: int) -> None:
        asyncio.run(registry.register(Announcement(SERVICE, "one", f"127.0.0.1:{port}")))

    yield f"local://{root}", change


REGISTRIES: dict[str, Registry] = {
    "FakeConsul": partial(_consul, None),
    "Consul": lambda directory: _consul(real_consul(), directory),
    "etcd": _etcd,
    "xDS": _xds,
    "file": _file,
    "local": _local,
}


def _many(services: int, registry: str, binary: str | None) -> Iterator[dict[str, Any]]:
    """Yield what a process has that watches very many services, in a process of its own."""
    with ConsulProcess(binary) as consul:
        for number in range(services):
            body = {"Name": f"service-{number}", "ID": f"{number}", "Address": "127.0.0.1", "Port": number + 1}
            consul.put("/v1/agent/service/register", body)
        command = [sys.executable, "-m", "benchmarks.wire.registries", consul.uri, str(services)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this module
        what, limits = f"{services:,} services", {"threads": 1.0}
        for unit, value in json.loads(done.stdout).items():
            yield row(what, registry, value, None, unit, limits.get(unit), 2)


def watch_many(uri: str, services: int) -> dict[str, float]:
    """Watch so many services; return what that takes, by unit."""
    before = held()
    with Mesh(uri) as mesh:
        began = time.monotonic()
        watched = [mesh.service(f"service-{number}") for number in range(services)]
        for service in watched:
            service.wait_ready(120)
        ready = time.monotonic() - began
        sockets, mebibytes, threads = (now - then for now, then in zip(held(), before, strict=True))
        used = time.process_time()
        time.sleep(5.0)
        idle = (time.process_time() - used) / 5.0 * 100
    return {
        "threads": threads,
        "connections": sockets,
        "MiB": mebibytes,
        "seconds until all are known": ready,
        "% of a core, idle": idle,
    }


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(watch_many(sys.argv[1], int(sys.argv[2]))), flush=True)
    else:
        for one in rows():
            print(*one.values(), sep="\t", flush=True)
