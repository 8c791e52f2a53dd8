"""A client that calls the servers of `leaving` without a pause until its standard input ends, and counts what failed.

No call is idempotent: what is sent and then lost is a failure. At its end it prints ``{"answered": …, "failed": […]}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from typing import Any

import svcmesh

CALLERS = 6
PAUSE = 0.005


class Tally:
    """What became of the calls."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def one(self, error: Exception | None = None) -> None:
        with self._lock:
            self.answered += error is None
            if error is not None:
                self.failed.append(f"{type(error).__name__}: {error}")


def blocking(tally: Tally, call: Any) -> None:
    """Call on threads."""

    def run() -> None:
        while not tally.over.wait(PAUSE):
            try:
                call()
            except Exception as error:  # noqa: BLE001 - counted, and shown by the test
                tally.one(error)
            else:
                tally.one()

    threads = [threading.Thread(target=run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def awaiting(tally: Tally, call: Any) -> None:
    """Call in tasks."""

    async def run() -> None:
        while not tally.over.is_set():
            try:
                await call()
            except Exception as error:  # noqa: BLE001 - as above
                tally.one(error)
            else:
                tally.one()
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*(run() for _ in range(CALLERS)))


def call_grpc(service: svcmesh.Service, tally: Tally) -> None:
    with service.grpc_channel() as channel:
        work = channel.unary_unary("/test.Worker/Work")
        blocking(tally, lambda: work(b""))


async def call_grpc_aio(service: svcmesh.Service, tally: Tally) -> None:
    async with service.grpc_aio_channel() as channel:
        work = channel.unary_unary("/test.Worker/Work")
        await awaiting(tally, lambda: work(b""))


def call_http(service: svcmesh.Service, tally: Tally) -> None:
    with service.http_client() as client:
        blocking(tally, lambda: client.post("/").raise_for_status())


async def call_http_aio(service: svcmesh.Service, tally: Tally) -> None:
    async with service.http_async_client() as client:

        async def work() -> None:
            (await client.post("/")).raise_for_status()

        await awaiting(tally, work)


def main(kind: str, registry: str) -> None:
    """Call until the standard input ends."""
    tally = Tally()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), tally.over.set()), daemon=True).start()
    with svcmesh.Mesh(registry) as mesh:
        service = mesh.service("worker")
        service.wait_ready(60)
        if kind == "grpc":
            call_grpc(service, tally)
        elif kind == "grpc-aio":
            asyncio.run(call_grpc_aio(service, tally))
        elif kind == "http":
            call_http(service, tally)
        else:
            asyncio.run(call_http_aio(service, tally))
    print(json.dumps({"answered": tally.answered, "failed": tally.failed}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["grpc", "grpc-aio", "http", "http-aio"])
    parser.add_argument("registry")
    arguments = parser.parse_args()
    main(arguments.kind, arguments.registry)
