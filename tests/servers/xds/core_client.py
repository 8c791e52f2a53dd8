"""gRPC's own client of xDS, as a program: it has servers, and calls them through ``xds:///`` when it is told to.

    GRPC_XDS_BOOTSTRAP=file python -m tests.servers.xds.core_client 2 orders

It writes the ports of its servers; for each line that it reads it makes twenty calls, and writes how many each server
took, or what the last error says.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


def answering(number: int) -> tuple[grpc.Server, int]:
    """Return a server whose every answer is its number, and its port."""
    server = grpc.server(ThreadPoolExecutor(4))
    behavior: Any = lambda request, context: str(number).encode()  # noqa: E731
    method = grpc.unary_unary_rpc_method_handler(behavior)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def main(servers: int, name: str) -> None:
    """Call until the input ends."""
    made = [answering(number) for number in range(servers)]
    print(json.dumps([port for _, port in made]), flush=True)
    channel: Any = None
    for _ in sys.stdin:
        channel = channel or grpc.insecure_channel(f"xds:///{name}")
        call = channel.unary_unary("/test.Service/Call")
        try:
            counted = Counter(int(call(b"", timeout=10, wait_for_ready=True)) for _ in range(20))
            print(json.dumps(counted), flush=True)
        except grpc.RpcError as error:
            print(json.dumps(str(error)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
