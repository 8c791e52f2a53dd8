"""A real gRPC server for tests: all four kinds of calls, and whatever trouble the request metadata asks for.

Run as a process of its own; `grpc_process.GrpcServer` does. It prints ``{"port": …}`` once it listens, and ends when
its standard input does, so that it never outlives the test run. Metadata that it obeys:

    x-id        names the call for x-fail; attempts of one logical call share it
    x-fail      "CODE:n": the first n calls with this x-id end with that code (n = -1: all)
    x-before    seconds before x-fail, so that the requests have arrived
    x-fail-at   "CODE:k": a streamed answer fails with that code after k messages
    x-delay     seconds before the answer; in a stream, before each message
    x-hang      answer nothing until the caller gives up
    x-hang-after  the same after x-fail
    x-pushback  goes out as trailer grpc-retry-pushback-ms
    x-early     send initial metadata at once
    x-report-a  goes out as trailer endpoint-load-metrics if this server's name is "a"
    x-report-a-hex  the same as trailer endpoint-load-metrics-bin, in hexadecimal digits
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc

HANG_SECONDS = 600.0
WORKERS = 1000  # a call whose loop was closed is nobody's, and holds its thread here until that process ends


class Probe(pb_grpc.ProbeServicer):
    """The service; `counts` is what ``Ping(text="?stats")`` answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.metadata: dict[str, str] = {}
        self.peers: set[str] = set()

    def Unary(self, request: pb.Ping, context: grpc.ServicerContext) -> pb.Pong:
        """Answer with the text of the request."""
        if request.text == "?stats":
            stats = {"counts": self.counts, "metadata": self.metadata, "connections": len(self.peers)}
            return pb.Pong(text=json.dumps(stats), server=self.name)
        self._begin("Unary", context)
        return pb.Pong(text=request.text, server=self.name, number=1)

    def Read(self, request: pb.Ping, context: grpc.ServicerContext) -> pb.Pong:
        """Answer with the text of the request."""
        self._begin("Read", context)
        return pb.Pong(text=request.text, server=self.name, number=1)

    def Put(self, request: pb.Ping, context: grpc.ServicerContext) -> pb.Pong:
        """Answer with the text of the request."""
        self._begin("Put", context)
        return pb.Pong(text=request.text, server=self.name, number=1)

    def ServerStream(self, request: pb.Ping, context: grpc.ServicerContext) -> Iterator[pb.Pong]:
        """Answer ``count`` messages."""
        asked = self._begin("ServerStream", context, delayed=False)
        for number in range(request.count):
            self._message(number, asked, context)
            yield pb.Pong(text=request.text, server=self.name, number=number)
        self._message(request.count, asked, context)

    def ClientStream(self, request_iterator: Iterator[pb.Ping], context: grpc.ServicerContext) -> pb.Pong:
        """Answer how many messages came, and their texts."""
        self._begin("ClientStream", context)
        texts = [request.text for request in request_iterator]
        return pb.Pong(text=",".join(texts), server=self.name, number=len(texts))

    def BidiStream(self, request_iterator: Iterator[pb.Ping], context: grpc.ServicerContext) -> Iterator[pb.Pong]:
        """Answer each message as it comes."""
        asked = self._begin("BidiStream", context, delayed=False)
        for number, request in enumerate(request_iterator):
            self._message(number, asked, context)
            yield pb.Pong(text=request.text, server=self.name, number=number)

    def _begin(self, method: str, context: grpc.ServicerContext, *, delayed: bool = True) -> dict[str, str]:
        asked = {str(key): str(value) for key, value in context.invocation_metadata()}
        with self.lock:
            self.counts[method] += 1
            self.peers.add(context.peer())
            self.metadata = asked | {"x-remaining": str(context.time_remaining())}
        done: Callable[[], Any] = lambda: self._ended(method)  # noqa: E731 - grpc wants a callable without arguments
        if not context.add_callback(done):
            done()
        context.send_initial_metadata((("x-server", self.name),)) if "x-early" in asked else None
        context.set_trailing_metadata(self._trailers(asked))
        if "x-hang" in asked:
            self._hang(context)
        if delayed:
            time.sleep(float(asked.get("x-delay", "0")))
        self._fail_first(asked, context)
        if "x-hang-after" in asked:
            self._hang(context)
        return asked

    def _ended(self, method: str) -> None:
        with self.lock:
            self.counts[f"{method}.ended"] += 1

    def _trailers(self, asked: dict[str, str]) -> tuple[tuple[str, str | bytes], ...]:
        trailers: list[tuple[str, str | bytes]] = [("x-server", self.name)]
        if "x-pushback" in asked:
            trailers.append(("grpc-retry-pushback-ms", asked["x-pushback"]))
        if f"x-report-{self.name}" in asked:
            trailers.append(("endpoint-load-metrics", asked[f"x-report-{self.name}"]))
        if f"x-report-{self.name}-hex" in asked:
            trailers.append(("endpoint-load-metrics-bin", bytes.fromhex(asked[f"x-report-{self.name}-hex"])))
        return tuple(trailers)

    def _fail_first(self, asked: dict[str, str], context: grpc.ServicerContext) -> None:
        if "x-fail" not in asked:
            return
        time.sleep(float(asked.get("x-before", "0")))
        code, _, times = asked["x-fail"].partition(":")
        key = f"failed {asked.get('x-id', '')}"
        with self.lock:
            self.counts[key] += 1
            failed = self.counts[key]
        if int(times) < 0 or failed <= int(times):
            context.abort(grpc.StatusCode[code], f"asked to fail: {failed}")

    def _message(self, number: int, asked: dict[str, str], context: grpc.ServicerContext) -> None:
        code, _, at = asked.get("x-fail-at", ":-1").partition(":")
        if number == int(at):
            context.abort(grpc.StatusCode[code], f"asked to fail at {at}")
        time.sleep(float(asked.get("x-delay", "0")))

    def _hang(self, context: grpc.ServicerContext) -> None:
        given_up = threading.Event()
        context.add_callback(given_up.set)
        given_up.wait(HANG_SECONDS)
        context.abort(grpc.StatusCode.ABORTED, "nobody waits any more")


def serve(options: argparse.Namespace) -> grpc.Server:
    """Start the server; print where it listens."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=WORKERS),
        options=[("grpc.so_reuseport", 0), *((name, int(value)) for name, value in options.option)],
    )
    pb_grpc.add_ProbeServicer_to_server(Probe(options.name), server)  # type: ignore[no-untyped-call]
    if options.key:
        pair = (Path(options.key).read_bytes(), Path(options.cert).read_bytes())
        roots = Path(options.client_ca).read_bytes() if options.client_ca else None
        credentials = grpc.ssl_server_credentials([pair], roots, bool(roots))
        port = server.add_secure_port(options.listen, credentials)
    else:
        port = server.add_insecure_port(options.listen)
    server.start()
    print(json.dumps({"port": port}), flush=True)
    return server


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--name", default="server")
    parser.add_argument("--key", help="PEM file; with --cert makes it a TLS server")
    parser.add_argument("--cert")
    parser.add_argument("--client-ca", help="PEM file; clients must show a certificate signed by it")
    parser.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "INT"))
    return parser.parse_args()


if __name__ == "__main__":
    running = serve(_arguments())
    sys.stdin.buffer.read()  # until the parent ends or closes it
    running.stop(None)
    os._exit(0)
