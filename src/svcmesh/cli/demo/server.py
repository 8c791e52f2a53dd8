"""One server of the demo: the program of its process, started by `fleet`. It registers itself, and knows no other.

Its life hangs on its standard input, a pipe from the demo that nothing is written to: when that closes, the demo is
gone, however it went, and the server goes too. It removes the demo's directory then, for nobody else is left to.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from socketserver import TCPServer
from threading import Thread
from typing import Any

from svcmesh.cli.demo.record import INSTANCE
from svcmesh.mesh import Mesh

TTL = 3.0
"""Seconds after which a killed or frozen server leaves the registry: less than its act takes, so that it is seen."""

LOOPBACK = "127.0.0.1"


def main(kind: str, name: str, registry: str, home: str) -> None:
    """Serve as instance ``name`` of service ``kind`` until SIGTERM, or until the demo is gone.

    Args:
        kind: ``greeter`` (gRPC) or ``orders`` (HTTP), the name to register under as well.
        registry: discovery URI of the registry. home: what to remove when the demo is gone.
    """
    told: SimpleQueue[int] = SimpleQueue()  # an Event's lock may be held where the handler wants it
    signal.signal(signal.SIGTERM, lambda number, _: told.put(number))
    Thread(target=_outlive_nobody, args=(home,), daemon=True).start()
    serve = {"greeter": greeter, "orders": orders}[kind]
    with (
        serve() as port,
        Mesh(registry) as mesh,
        mesh.register(kind, port=port, host=LOOPBACK, meta={INSTANCE: name}, ttl=TTL),
    ):
        told.get()


@contextmanager
def greeter() -> Generator[int]:
    """Serve gRPC's Greeter; yield the port."""
    import grpc

    from svcmesh._proto import greet_pb2, greet_pb2_grpc

    class Greeter(greet_pb2_grpc.GreeterServicer):
        def SayHello(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802, ARG002 - named by the .proto
            return greet_pb2.HelloReply(message=f"Hello, {request.name}!")

    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    greet_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1.0).wait()


@contextmanager
def orders() -> Generator[int]:
    """Serve ``GET /orders/<number>`` by HTTP; yield the port."""
    server = _Server((LOOPBACK, 0), _Orders)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks for the name of this machine, which may take its time


class _Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        number = self.path.removeprefix("/orders/")
        known = number != self.path and number.isascii() and number.isdecimal()
        body = json.dumps({"order": int(number)} if known else {"error": "not found"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the client's side is what is shown."""


def _outlive_nobody(home: str) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
