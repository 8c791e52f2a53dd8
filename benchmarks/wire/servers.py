"""Loopback servers in processes of their own: ``python -m benchmarks.wire.servers KIND`` prints its port.

Kinds are ``grpc``, ``http``, ``wide`` and ``wide-http``; the last two are one server on a thousand ports, which it
prints in one line.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from svcmesh._proto import greet_pb2, greet_pb2_grpc

SERVERS = 3
WIDE = 1000
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


class Greeter(greet_pb2_grpc.GreeterServicer):
    """Answers at once."""

    def SayHello(self, request: greet_pb2.HelloRequest, context: grpc.ServicerContext) -> greet_pb2.HelloReply:  # noqa: ARG002, N802 - gRPC's names
        """Greet."""
        return greet_pb2.HelloReply(message=request.name)


def down(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: ARG001 - gRPC passes it
    """Answer with as many messages as the request says."""
    for _ in range(int(request)):
        yield b"0123456789"


def up(requests: Iterable[bytes], context: grpc.ServicerContext) -> bytes:  # noqa: ARG001 - gRPC passes it
    """Answer with how many messages there were."""
    return b"%d" % sum(1 for _ in requests)


STREAMS = {
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
}


@contextmanager
def running(kind: str, count: int = SERVERS) -> Generator[list[str]]:
    """Run ``count`` servers; yield their addresses."""
    command = [sys.executable, "-m", "benchmarks.wire.servers", kind]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]  # noqa: S603 - this module
    try:
        ports = [port for process in processes if process.stdout for port in process.stdout.readline().split()]
        yield [f"127.0.0.1:{port}" for port in ports]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def check(request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: ARG001 - gRPC passes them
    """Answer gRPC's health check: SERVING."""
    return b"\x08\x01"


def serve_grpc(ports: int = 1) -> None:
    """Serve the Greeter and the streams until killed."""
    server = grpc.server(ThreadPoolExecutor(4))
    greet_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Streams", STREAMS)])
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", health)])
    print(*(server.add_insecure_port("127.0.0.1:0") for _ in range(ports)), flush=True)
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


async def serve_http(ports: int = 1) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Http, "127.0.0.1", 0) for _ in range(ports)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.create_future()


if __name__ == "__main__":
    if sys.argv[1] in {"grpc", "wide"}:
        serve_grpc(WIDE if sys.argv[1] == "wide" else 1)
    else:
        asyncio.run(serve_http(WIDE if sys.argv[1] == "wide-http" else 1))
