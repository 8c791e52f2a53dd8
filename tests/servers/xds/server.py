"""A control plane as a program: ADS in both dialects. It is told what to serve by lines of JSON.

    python -m tests.servers.xds.server --listen 127.0.0.1:0

Lines it reads: ``set`` and ``remove`` resources by kind and name, ``raw`` sends bytes to all streams, ``close`` ends
them, ``mute`` says nothing from then on, ``status`` answers new streams with a status of gRPC. Lines it writes: its
``port``, then each ``request``; ``streams``, the number of them, whenever it changes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from tests.servers.xds.resources import CLUSTER, LISTENER
from tests.servers.xds.wire import decode, encode, packed, text

PREFIX = "type.googleapis.com/"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class World:
    """What is served: resources by kind and name, each with the version at which it changed."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, tuple[int, bytes]]] = {}
        self.version = 0
        self.streams: set[Stream] = set()
        self.mute = False
        self.status: str | None = None

    def change(self, told: dict[str, Any]) -> None:
        """Do what a line says."""
        self.mute = told.get("mute", self.mute)
        self.status = told.get("status", self.status)  # None is the end of it
        self.version += 1
        for kind, named in told.get("set", {}).items():
            for name, content in named.items():
                self.resources.setdefault(kind, {})[name] = self.version, base64.b64decode(content)
        for kind, names in told.get("remove", {}).items():
            for name in names:
                self.resources.get(kind, {}).pop(name, None)
        for stream in self.streams:
            if "raw" in told:
                stream.send(base64.b64decode(told["raw"]))
            for kind in (*told.get("set", {}), *told.get("remove", {})):
                stream.push(kind)
            if told.get("close"):
                stream.send(None)


class Stream:
    """One stream of a client: what it wants, and what it was sent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.nonces: dict[str, str] = {}
        self.count = 0

    def send(self, content: bytes | None) -> None:
        """Send bytes; None ends the stream."""
        if not self.world.mute:
            self.outgoing.put_nowait(content)

    def next_nonce(self, kind: str) -> str:
        self.count += 1
        self.nonces[kind] = str(self.count)
        return self.nonces[kind]

    def hear(self, content: bytes) -> None:
        raise NotImplementedError

    def push(self, kind: str) -> None:
        raise NotImplementedError


class Whole(Stream):
    """The state of the world."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.names: dict[str, list[str]] = {}

    def hear(self, content: bytes) -> None:
        message = decode(content)
        kind = text(message, 4).removeprefix(PREFIX)
        names = [name.decode() for name in message.get(3, [])]
        nonce = text(message, 5)
        tell_request(kind, message.get(2), message.get(6), names=names, version=text(message, 1), nonce=nonce)
        if nonce != self.nonces.get(kind, ""):
            return  # about a response that another one has followed
        if self.names.get(kind) != names:
            self.names[kind] = names
            self.push(kind)

    def push(self, kind: str) -> None:
        if kind not in self.names:
            return
        there, names = self.world.resources.get(kind, {}), self.names[kind]
        wanted = list(there) if not names and kind in {LISTENER, CLUSTER} else names
        found = [packed(kind, there[name][1]) for name in wanted if name in there]
        if found or kind in {LISTENER, CLUSTER}:
            version, nonce = str(self.world.version), self.next_nonce(kind)
            self.send(encode({1: version, 2: found, 4: PREFIX + kind, 5: nonce}))


class Changes(Stream):
    """Its changes."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent: dict[str, dict[str, int]] = {}
        self.all: set[str] = set()

    def hear(self, content: bytes) -> None:
        message = decode(content)
        kind = text(message, 2).removeprefix(PREFIX)
        more = [name.decode() for name in message.get(3, [])]
        less = [name.decode() for name in message.get(4, [])]
        tell_request(kind, message.get(1), message.get(7), names=more, less=less, nonce=text(message, 6))
        if (kind not in self.sent and not more) or "*" in more:
            self.all.add(kind)
        known = self.sent.setdefault(kind, {})
        for name in less:
            known.pop(name, None)
        known.update(dict.fromkeys(more, -1))
        if more or not message.get(6):
            self.push(kind)

    def push(self, kind: str) -> None:
        known, there = self.sent.get(kind), self.world.resources.get(kind, {})
        if known is None:
            return
        if kind in self.all:
            known.update({name: -1 for name in there if name not in known})
        found = [
            {3: name, 1: str(there[name][0]), 2: packed(kind, there[name][1])}
            for name, version in known.items()
            if name in there and there[name][0] != version
        ]
        gone = [name for name, version in known.items() if name not in there and version != 0]
        known.update({name: there[name][0] if name in there else 0 for name in known})
        if found or gone:
            self.send(
                encode({1: str(self.world.version), 2: found, 4: PREFIX + kind, 5: self.next_nonce(kind), 6: gone})
            )


def tell_request(kind: str, node: list[bytes] | None, refused: list[bytes] | None, **fields: Any) -> None:
    """Write down a request: who asks for what, and why it refuses what it was sent."""
    who = decode(node[-1]) if node else {}
    why = text(decode(refused[-1]), 2) if refused else ""
    tell(request={"kind": kind, "node": text(who, 1), "agent": text(who, 6), "refused": why, **fields})


def tell(**fields: Any) -> None:
    """Write a line."""
    print(json.dumps(fields), flush=True)


def handler(world: World, kind: type[Stream]) -> Any:
    """Return the handler of a method."""

    async def serve(requests: Any, context: grpc.aio.ServicerContext) -> None:
        if world.status:
            await context.abort(grpc.StatusCode[world.status], "as the test wants it")
        stream = kind(world)
        world.streams.add(stream)
        tell(streams=len(world.streams))

        async def hear() -> None:
            async for content in requests:
                stream.hear(content)
            stream.send(None)

        hearing = asyncio.ensure_future(hear())
        try:
            while (content := await stream.outgoing.get()) is not None:
                await context.write(content)
        finally:
            hearing.cancel()
            world.streams.discard(stream)
            tell(streams=len(world.streams))

    return grpc.stream_stream_rpc_method_handler(serve)


def content(file: str) -> bytes:
    """Return what a file holds."""
    return Path(file).read_bytes()


async def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--tls", nargs=3, metavar=("KEY", "CERTIFICATE", "AUTHORITY"))
    options = parser.parse_args()
    world = World()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)])
    methods = {"StreamAggregatedResources": handler(world, Whole), "DeltaAggregatedResources": handler(world, Changes)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if options.tls:
        key, certificate, authority = map(content, options.tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
        port = server.add_secure_port(options.listen, credentials)
    else:
        port = server.add_insecure_port(options.listen)
    await server.start()
    tell(port=port)
    reader = asyncio.StreamReader(limit=1 << 28)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        world.change(json.loads(line))
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
