"""An HTTP/2 server over TLS that echoes paths, and refuses a stream where the path asks for it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import sys
from collections import Counter

import h2.config
import h2.connection
import h2.errors
import h2.events

REFUSED_ONCE: Counter[str] = Counter()


class Connection:
    """One connection. Paths: ``/refuse…`` is refused the first time, ``/slow`` takes half a second, others echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    task = asyncio.create_task(self.answer(event.stream_id, headers))
                    self.tasks.add(task)
                    task.add_done_callback(self.tasks.discard)
            self.flush()

    async def answer(self, stream: int, headers: dict[str, str]) -> None:
        path = headers[":path"]
        REFUSED_ONCE[path] += 1
        if path.startswith("/refuse") and REFUSED_ONCE[path] == 1:
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            self.flush()
            return
        if path == "/slow":
            await asyncio.sleep(0.5)
        body = json.dumps({"path": path, "authority": headers[":authority"]}).encode()
        with contextlib.suppress(Exception):  # the client has reset the stream
            self.h2.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
            self.h2.send_data(stream, body, end_stream=True)
            self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())


async def serve(listen: str, certificate: str) -> None:
    """Serve until standard input ends; print the port first."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            await Connection(reader, writer).run()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(connected, "127.0.0.1", int(listen.rpartition(":")[2]), ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--certificate", required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.listen, given.certificate))
