"""gRPC servers with the server interceptors, on threads (``--name sync``) or on asyncio (``--name aio``).

``/test/Left`` answers what its ambient deadline has left, ``/test/Stream`` with three of that, and ``/test/Onward``
with what the server whose address it is given says to the same question, asked through svcmesh without a timeout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio

import svcmesh
from svcmesh.grpc import aio_server_interceptors, server_interceptors


def left() -> bytes:
    return json.dumps(svcmesh.remaining()).encode()


class Blocking:
    """Handlers on threads."""

    def left(self, request: bytes, context: Any) -> bytes:
        return left()

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield left()

    def onward(self, request: bytes, context: Any) -> bytes:
        with svcmesh.Mesh({"next": [request.decode()]}) as mesh, mesh.service("next").grpc_channel() as channel:
            answer: bytes = channel.unary_unary("/test/Left")(b"")
            return answer


class Awaiting:
    """Handlers on asyncio."""

    async def left(self, request: bytes, context: Any) -> bytes:
        return left()

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield left()

    async def onward(self, request: bytes, context: Any) -> bytes:
        mesh = svcmesh.Mesh({"next": [request.decode()]})
        async with mesh, mesh.service("next").grpc_aio_channel() as channel:
            answer: bytes = await channel.unary_unary("/test/Left")(b"")
            return answer


def handlers(of: Any) -> Any:
    methods = {
        "Left": grpc.unary_unary_rpc_method_handler(of.left),
        "Stream": grpc.unary_stream_rpc_method_handler(of.stream),
        "Onward": grpc.unary_unary_rpc_method_handler(of.onward),
    }
    return grpc.method_handlers_generic_handler("test", methods)


def announce(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


def serve() -> None:
    """Serve on threads until the standard input ends."""
    server = grpc.server(futures.ThreadPoolExecutor(8), [handlers(Blocking())], interceptors=server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(port)
    sys.stdin.buffer.read()
    server.stop(None).wait()


async def serve_aio() -> None:
    """Serve on asyncio until the standard input ends."""
    server = grpc.aio.server(handlers=[handlers(Awaiting())], interceptors=aio_server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(port)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    await server.stop(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen")
    if parser.parse_args().name == "aio":
        asyncio.run(serve_aio())
    else:
        serve()
