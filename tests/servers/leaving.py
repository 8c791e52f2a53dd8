"""A server that registers itself and is shut down as the documentation says: gRPC, gRPC on asyncio, or HTTP by uvicorn.

It prints ``{"executed": …}`` at the first call that finds it listening for signals (calls may come before that), and
once more when it has stopped. SIGTERM stops it, and so does the end of its standard input. Each call takes a few
milliseconds, so that some are always in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import svcmesh

SECONDS = 0.01


class Counter:
    """Counts calls, from any thread."""

    def __init__(self) -> None:
        self.executed = 0
        self._said = False
        self._lock = threading.Lock()

    def one(self) -> bytes:
        with self._lock:
            self.executed += 1
            if not self._said and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                self._said = True
                say()
        return b"done"


executed = Counter()


def serve_grpc(registry: str) -> None:
    """Serve on threads, with a health servicer."""
    import grpc
    from grpc_health.v1 import health, health_pb2_grpc

    from svcmesh.grpc import serve_until_signal

    def work(request: bytes, context: Any) -> bytes:
        time.sleep(SECONDS)
        return executed.one()

    server = grpc.server(futures.ThreadPoolExecutor(16), [handlers(work)])
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with svcmesh.Mesh(registry) as mesh, mesh.register("worker", port=port) as registration:
        serve_until_signal(server, registration, health=servicer)


async def serve_grpc_aio(registry: str) -> None:
    """Serve on an asyncio loop, with a health servicer."""
    import grpc.aio
    from grpc_health.v1 import health, health_pb2_grpc

    from svcmesh.grpc import aio_serve_until_signal

    async def work(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(SECONDS)
        return executed.one()

    server = grpc.aio.server(handlers=[handlers(work)])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with svcmesh.Mesh(registry) as mesh, mesh.register("worker", port=port) as registration:
        await aio_serve_until_signal(server, registration, health=servicer)


def serve_http(registry: str) -> None:
    """Serve by uvicorn, which has signal handlers of its own."""
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with svcmesh.Mesh(registry) as mesh, mesh.register("worker", port=port) as registration:
            with svcmesh.leave_on_signal(registration):
                yield

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            say()  # uvicorn ends the process by the signal that it got
            return
        await asyncio.sleep(SECONDS)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": executed.one()})

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def handlers(work: Any) -> Any:
    import grpc

    method = grpc.unary_unary_rpc_method_handler(work)
    return grpc.method_handlers_generic_handler("test.Worker", {"Work": method})


def say() -> None:
    print(json.dumps({"executed": executed.executed}), flush=True)


def end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["grpc", "grpc-aio", "http"])
    parser.add_argument("registry")
    arguments = parser.parse_args()
    threading.Thread(target=end_with_parent, daemon=True).start()
    if arguments.kind == "grpc":
        serve_grpc(arguments.registry)
    elif arguments.kind == "grpc-aio":
        asyncio.run(serve_grpc_aio(arguments.registry))
    else:
        serve_http(arguments.registry)
    say()
