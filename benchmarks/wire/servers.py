"""Loopback servers in processes of their own: ``python -m benchmarks.wire.servers grpc|http`` prints its port."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from svcmesh._proto import greet_pb2, greet_pb2_grpc

SERVERS = 3
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


class Greeter(greet_pb2_grpc.GreeterServicer):
    """Answers at once."""

    def SayHello(self, request: greet_pb2.HelloRequest, context: grpc.ServicerContext) -> greet_pb2.HelloReply:  # noqa: ARG002, N802 - gRPC's names
        """Greet."""
        return greet_pb2.HelloReply(message=request.name)


@contextmanager
def running(kind: str) -> Iterator[list[str]]:
    """Run three servers; yield their addresses."""
    command = [sys.executable, "-m", "benchmarks.wire.servers", kind]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(SERVERS)]  # noqa: S603 - this module
    try:
        yield [f"127.0.0.1:{process.stdout.readline().strip()}" for process in processes if process.stdout]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def serve_grpc() -> None:
    """Serve the Greeter until killed."""
    server = grpc.server(ThreadPoolExecutor(4))
    greet_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


class Http(asyncio.Protocol):
    """Answers each request without a body, on connections that stay open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer whatever is complete."""
        self._buffer += data
        *requests, self._buffer = self._buffer.split(b"\r\n\r\n")
        if requests and isinstance(self._transport, asyncio.Transport):
            self._transport.write(ANSWER * len(requests))


async def serve_http() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "grpc":
        serve_grpc()
    else:
        asyncio.run(serve_http())
