"""A thousand endpoints: what a client holds of them before and after a few calls, beside stock channels.

Each client runs in a process of its own, so that memory, threads and sockets are its alone; all are what it has more
than before it was made. A connection should be there only where a call went: gRPC's round_robin connects to all, and
so does whoever keeps a stock channel for each endpoint and calls them in turn. Memory and threads are reported.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from benchmarks.wire.grpc import REQUEST, ROUND_ROBIN
from benchmarks.wire.paired import OURS
from benchmarks.wire.servers import running
from svcmesh import Mesh
from svcmesh._proto import greet_pb2_grpc

CALLS = (0, 10, 1000)
ONE, EACH = "stock, one channel, round_robin", "stock, a channel each"


def rows(calls: tuple[int, ...] = CALLS) -> Iterator[dict[str, Any]]:
    """Yield a row for each client and number of calls.

    Keys: client, calls (made so far), connections, mebibytes, threads, ok (of ours: no connections without calls).
    """
    with running("wide", count=1) as addresses:
        for client in (ONE, EACH, OURS):
            command = [sys.executable, "-m", "benchmarks.wire.scale", client, json.dumps(calls)]
            done = subprocess.run(  # noqa: S603 - this module
                command, input=json.dumps(addresses), stdout=subprocess.PIPE, text=True, check=True
            )
            yield from json.loads(done.stdout)


def measure(client: str, calls: list[int], addresses: list[str]) -> Iterator[dict[str, Any]]:
    """Make a client and its calls; yield the rows."""
    with grpc.insecure_channel(addresses[0]) as channel:  # what gRPC makes once per process
        greet_pb2_grpc.GreeterStub(channel).SayHello(REQUEST)  # type: ignore[no-untyped-call]
    before = held()
    call = _client(client, addresses)
    made = 0
    for total in calls:
        while made < total:
            call()
            made += 1
        sockets, mebibytes, threads = (now - then for now, then in zip(held(), before, strict=True))
        yield {
            "client": client,
            "calls": total,
            "connections": int(sockets),
            "mebibytes": round(mebibytes, 1),
            "threads": int(threads),
            "ok": client != OURS or sockets <= total,
        }


def _client(client: str, addresses: list[str]) -> Callable[[], Any]:
    """Return what makes a call."""
    if client == EACH:
        channels = [grpc.insecure_channel(address) for address in addresses]
        stubs = [greet_pb2_grpc.GreeterStub(channel) for channel in channels]  # type: ignore[no-untyped-call]
        following = cycle(stubs).__next__
        return lambda: following().SayHello(REQUEST)
    if client == ONE:
        options = [*ROUND_ROBIN, ("grpc.default_authority", "wide")]  # else it is all addresses: longer than allowed
        channel = grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options)
    else:
        service = Mesh({"wide": addresses}).service("wide")
        service.wait_ready(5)
        channel = service.grpc_channel()
    stub = greet_pb2_grpc.GreeterStub(channel)  # type: ignore[no-untyped-call]
    return lambda: stub.SayHello(REQUEST)


def held() -> tuple[float, float, float]:
    """Return this process's sockets, resident memory in mebibytes, and threads."""
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in status)
    return _sockets(), int(found["VmRSS"].split()[0]) / 1024, float(found["Threads"])


def _sockets() -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            count += str(descriptor.readlink()).startswith("socket:")
    return count


if __name__ == "__main__":
    print(json.dumps(list(measure(sys.argv[1], json.loads(sys.argv[2]), json.load(sys.stdin)))), flush=True)
    os._exit(0)  # a thousand connections need not be closed one by one
