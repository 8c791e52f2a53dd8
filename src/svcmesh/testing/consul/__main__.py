"""`python -m svcmesh.testing.consul`: a fake Consul as a process of its own, until its standard input ends.

The first line it prints is JSON with its address, its discovery URI, and the address of its DNS.
"""

from __future__ import annotations

import argparse
import json
import sys

from svcmesh.testing.consul.fake import FakeConsul


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m svcmesh.testing.consul", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--dns-port", type=int, help="answer DNS there, too; 0 takes a free one")
    arguments = parser.parse_args()
    with FakeConsul(arguments.host, arguments.port, dns_port=arguments.dns_port) as consul:
        told = {"address": consul.address, "uri": consul.uri}
        if arguments.dns_port is not None:
            told["dns"] = consul.dns_address
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        while sys.stdin.buffer.read(1024):
            pass


if __name__ == "__main__":
    main()
