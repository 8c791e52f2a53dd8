"""An HTTP/2 server, over TLS or by prior knowledge, that does well and badly what paths ask for.

/slow/0.5    answers after so many seconds        /bytes/1000   so many bytes, as the client's windows allow
/upload      how much came, and its sum           /trailers     a body and trailers
/early       413 before the body has come         /echo…        the path and the authority, as any other path
/stats       what it has seen so far              /mute         a head, and nothing after it
/after/x     answers once somebody has asked for /x
/refuse…     refuses the stream the first time    /reset/8      resets the stream with this code
/cut         half of a body, then a reset         /ping         pings, and answers when the client has
/goaway      says goodbye, and answers            /above…       the first time, says goodbye to what is above the
/settings/2  allows so many streams from now on                 stream before this one, and goes on with the others
/close/3     closes the connection                /garbage/3    sends what is no frame
/die/3       ends the process; all three as soon as the connection has so many streams
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import ssl
import sys
from collections import Counter, defaultdict
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame

SEEN: Counter[str] = Counter()
PATHS: Counter[str] = Counter()
ASKED: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


class Connection:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, given: argparse.Namespace) -> None:
        self.reader = reader
        self.writer = writer
        self.given = given
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.tasks: set[asyncio.Task[None]] = set()
        self.bodies: dict[int, asyncio.Queue[bytes]] = {}
        self.changed = asyncio.Event()
        self.shut: set[int] = set()
        self.open = 0

    async def run(self) -> None:
        codes = h2.settings.SettingCodes
        first = {codes.MAX_CONCURRENT_STREAMS: self.given.streams, codes.INITIAL_WINDOW_SIZE: self.given.window}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=first)
        self.h2.initiate_connection()
        self.flush()
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                self.on(event)
            self.flush()

    def on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            SEEN["requests"] += 1
            headers = {name.decode(): value.decode() for name, value in event.headers}
            self.bodies[event.stream_id] = asyncio.Queue()
            self.shut |= {event.stream_id} if headers[":path"] == "/shut" else set()
            task = asyncio.create_task(self.answer(event.stream_id, headers))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id].put_nowait(event.data)
            if event.stream_id in self.shut:
                return
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.bodies[event.stream_id].put_nowait(b"")
        elif isinstance(event, h2.events.StreamReset):
            SEEN[f"reset {int(event.error_code)}"] += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            SEEN["goodbye"] += 1
        elif isinstance(event, h2.events.PingAckReceived):
            SEEN["pong"] += 1
        self.tell()

    def tell(self) -> None:
        """Let all look again that wait for something."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def answer(self, stream: int, headers: dict[str, str]) -> None:
        path = headers[":path"]
        PATHS[path] += 1
        ASKED[path].set()
        SEEN["open"] += 1
        self.open += 1
        SEEN["most"] = max(SEEN["most"], self.open)
        self.tell()
        try:
            with contextlib.suppress(h2.exceptions.ProtocolError, KeyError):  # the client has reset the stream
                await self.act(stream, path, path.partition("?")[0].strip("/").partition("/"), headers)
        finally:
            SEEN["open"] -= 1
            self.open -= 1
            self.flush()

    async def act(self, stream: int, path: str, words: tuple[str, str, str], headers: dict[str, str]) -> None:
        what, _, how = words
        method = getattr(self, f"do_{what}", None)
        if method is not None:
            await method(stream, how)
        elif path.startswith("/refuse") and PATHS[path] == 1:
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        elif path.startswith("/above") and PATHS[path] == 1:
            self.goodbye(stream - 2)
        else:
            await self.say(stream, {"path": path, "authority": headers[":authority"]})

    async def do_slow(self, stream: int, how: str) -> None:
        await asyncio.sleep(float(how or 0.5))
        await self.say(stream, {"path": f"/slow/{how}", "authority": ""})

    async def do_after(self, stream: int, how: str) -> None:
        await ASKED[f"/{how}"].wait()
        await self.say(stream, {"path": f"/after/{how}", "authority": ""})

    async def do_bytes(self, stream: int, how: str) -> None:
        await self.say(stream, None, bytes(range(256)) * (int(how) // 256) + bytes(int(how) % 256))

    async def do_upload(self, stream: int, how: str) -> None:
        digest, length = hashlib.sha256(), 0
        while part := await self.bodies[stream].get():
            digest.update(part)
            length += len(part)
        await self.say(stream, {"length": length, "sha256": digest.hexdigest()})

    async def do_trailers(self, stream: int, how: str) -> None:
        self.h2.send_headers(stream, [(":status", "200")])
        self.h2.send_data(stream, b"body")
        self.h2.send_headers(stream, [("x-trailer", "end")], end_stream=True)

    async def do_shut(self, stream: int, how: str) -> None:
        """Do nothing: its window is never opened."""

    async def do_early(self, stream: int, how: str) -> None:
        self.h2.send_headers(stream, [(":status", "413"), ("content-length", "0")], end_stream=True)
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)

    async def do_stats(self, stream: int, how: str) -> None:
        await self.say(stream, {**SEEN, "paths": PATHS, "pid": os.getpid()})

    async def do_mute(self, stream: int, how: str) -> None:
        self.h2.send_headers(stream, [(":status", "200")])

    async def do_reset(self, stream: int, how: str) -> None:
        self.h2.reset_stream(stream, int(how))

    async def do_cut(self, stream: int, how: str) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-length", "100")])
        self.h2.send_data(stream, b"x" * 50)
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)

    async def do_ping(self, stream: int, how: str) -> None:
        before = SEEN["pong"]
        self.h2.ping(b"knockers")
        self.flush()
        while SEEN["pong"] == before:
            await self.changed.wait()
        await self.say(stream, {"pong": True})

    async def do_goaway(self, stream: int, how: str) -> None:
        self.goodbye(stream)
        await asyncio.sleep(float(how or 0))
        await self.say(stream, {"path": "/goaway", "authority": ""})

    async def do_settings(self, stream: int, how: str) -> None:
        self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: int(how)})
        await self.say(stream, {"allowed": int(how)})

    async def crowded(self, how: str) -> None:
        while self.open < int(how):
            await self.changed.wait()

    async def do_close(self, stream: int, how: str) -> None:
        await self.crowded(how)
        self.writer.close()

    async def do_garbage(self, stream: int, how: str) -> None:
        await self.crowded(how)
        self.writer.write(b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello" + b"\xff" * 100)

    async def do_die(self, stream: int, how: str) -> None:
        await self.crowded(how)
        os._exit(1)

    def goodbye(self, last: int) -> None:
        """Say goodbye by hand: h2 would not answer anybody afterwards."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = max(0, last)
        self.flush()
        self.writer.write(frame.serialize())

    async def say(self, stream: int, what: dict[str, Any] | None, body: bytes = b"") -> None:
        body = body if what is None else json.dumps(what).encode()
        self.h2.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
        while body:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if size <= 0:
                await self.changed.wait()
                continue
            self.h2.send_data(stream, body[:size])
            body = body[size:]
            self.flush()
            await self.writer.drain()
        self.h2.end_stream(stream)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())


async def serve(given: argparse.Namespace) -> None:
    """Serve until standard input ends; print the port first."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        SEEN["connections"] += 1
        SEEN["connected"] += 1
        with contextlib.suppress(OSError, ssl.SSLError, h2.exceptions.ProtocolError):
            await Connection(reader, writer, given).run()
        SEEN["connected"] -= 1
        writer.close()

    context = None
    if given.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate)
        context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(connected, "127.0.0.1", int(given.listen.rpartition(":")[2]), ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    os._exit(0)  # connections that are open keep nobody waiting


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--certificate")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--window", type=int, default=65535)
    asyncio.run(serve(parser.parse_args()))
