"""An HTTP/1.1 server that does to its callers, on request, everything that servers do to them.

It writes its answers byte by byte, since no HTTP library would send what clients have to survive. The path says what
happens: see `Handler`. ``/stats`` tells what it has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Seen:
    """What this server has seen."""

    paths: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    open: int = 0
    bodies: list[str] = field(default_factory=list)


class Handler:
    """One connection.

    - ``/echo``: JSON of the request: method, target, headers, length and digest of the body, server, connection.
    - ``/status/503``: that status; ``?retry-after=…`` adds that header, or any other.
    - ``/chunks/3``: a chunked body of three parts.
    - ``/report/200?a=TEXT+eps=1&b=…``: that status, and what stands by the name of this server as load report.
    - ``/slow/0.5``: after half a second; ``/drip``: a byte every 50 ms for ten minutes.
    - ``/drop``: hang up without an answer; ``/garbage``: no HTTP.
    - ``/cut``: half of the body it announced; ``/cut-chunked``: the same in chunks.
    - ``/close``: an answer, then hang up; ``/early``: an answer before the body was read, then hang up.
    - ``/upgrade``: 101, and from then on what comes in goes back.
    - ``/first/drop/echo``: the first time ``/drop``, later ``/echo``; any two paths of one part each.
    """

    def __init__(self, name: str, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self.seen = seen
        self.reader = reader
        self.writer = writer
        self.number = seen.connections

    async def run(self) -> None:
        while True:
            first = await self.reader.readexactly(1)
            if first == b"\x16":  # somebody speaks TLS to a server that does not
                self.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            head = first + await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            self.method, self.target, _ = line.split(" ")
            self.headers = [item.split(": ", 1) for item in lines if item]
            path = self.target.partition("?")[0]
            self.seen.paths[path] += path != "/stats"
            if path.startswith("/early"):
                await self.answer(200, b"early", close=True)
                return
            self.body = await self.read_body({name.lower(): value for name, value in self.headers})
            if not await self.act(path):
                return

    async def read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readline(), 16):
                parts.append(await self.reader.readexactly(size))
                await self.reader.readline()
            await self.reader.readline()
            return b"".join(parts)
        return await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def act(self, path: str) -> bool:
        """Do what ``path`` says; return whether the connection goes on."""
        what, _, rest = path.strip("/").partition("/")
        if what == "first":
            once, _, later = rest.partition("/")
            return await self.act(once if self.seen.paths[path] == 1 else later)
        if what == "upgrade":
            await self.upgrade()
            return False
        if what in {"drop", "cut", "garbage", "close", "cut-chunked"}:
            await self.misbehave(what)
            return False
        if what == "stats":
            await self.answer(200, json.dumps(self.seen.__dict__).encode())
        elif what == "status":
            header, given, value = self.target.partition("?")[2].partition("=")
            extra = [(header, value.replace("+", " "))] if given else []
            await self.answer(int(rest), b"status " + rest.encode(), extra)
        elif what == "report":
            reports = parse_qs(self.target.partition("?")[2])
            extra = [("Endpoint-Load-Metrics", report) for report in reports.get(self.name, ())]
            await self.answer(int(rest), b"report", extra)
        elif what == "chunks":
            await self.chunks(int(rest))
        elif what == "slow":
            await asyncio.sleep(float(rest))
            await self.answer(200, b"slow")
        elif what == "drip":
            await self.drip()
        else:
            await self.echo()
        return True

    async def misbehave(self, what: str) -> None:
        if what == "cut":
            self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789")
        elif what == "cut-chunked":
            self.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n")
        elif what == "garbage":
            self.writer.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        elif what == "close":
            await self.answer(200, b"bye")  # and no word of it in the headers
        await self.writer.drain()

    async def answer(
        self, status: int, body: bytes, extra: list[tuple[str, str]] | None = None, *, close: bool = False
    ) -> None:
        headers = [("content-length", str(len(body))), ("x-server", self.name), ("x-connection", str(self.number))]
        headers += [*(extra or []), *([("connection", "close")] if close else [])]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        shown = b"" if getattr(self, "method", "") == "HEAD" else body
        self.writer.write(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + shown)
        await self.writer.drain()

    async def chunks(self, count: int) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(count):
            part = f"part {number};".encode()
            self.writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await self.writer.drain()
            await asyncio.sleep(0.005)
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def upgrade(self) -> None:
        self.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        while data := await self.reader.read(65536):
            self.writer.write(data)
            await self.writer.drain()

    async def drip(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12000\r\n\r\n")
        for _ in range(12_000):
            self.writer.write(b".")
            await self.writer.drain()
            await asyncio.sleep(0.05)

    async def echo(self) -> None:
        digest = hashlib.sha256(self.body).hexdigest()
        self.seen.bodies.append(digest)
        found: dict[str, Any] = {"method": self.method, "target": self.target, "headers": self.headers}
        found |= {"length": len(self.body), "digest": digest, "server": self.name, "connection": self.number}
        await self.answer(200, json.dumps(found).encode(), [("content-type", "application/json")])


async def serve(name: str, listen: str, certificate: str | None, client_ca: str | None) -> None:
    """Serve until standard input ends; print the port first."""
    seen = Seen()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        seen.open += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await Handler(name, seen, reader, writer).run()
        seen.open -= 1
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    if listen.startswith("unix:"):
        server = await asyncio.start_unix_server(connected, listen[len("unix:") :], ssl=context)
        port = 0
    else:
        host, _, text = listen.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = await asyncio.start_server(connected, host.strip("[]"), int(text), family=family, ssl=context)
        port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()


def main() -> None:
    """Run the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="server")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--certificate", help="PEM file with key and chain; makes it a TLS server")
    parser.add_argument("--client-ca", help="PEM file; clients must show a certificate signed by it")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.name, arguments.listen, arguments.certificate, arguments.client_ca))


if __name__ == "__main__":
    main()
