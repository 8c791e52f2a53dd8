"""A gRPC server with nothing but gRPC's own health service; SIGUSR1 turns SERVING into NOT_SERVING and back."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
    """Serve until the end of the standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen", default="127.0.0.1:0")
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(parser.parse_args().listen)
    serving = True

    def turn(*_: object) -> None:
        nonlocal serving
        serving = not serving
        states = health_pb2.HealthCheckResponse
        servicer.set("", states.SERVING if serving else states.NOT_SERVING)

    signal.signal(signal.SIGUSR1, turn)
    server.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
