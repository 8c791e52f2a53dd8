"""Servers on ports of their own, in one thread, that do with a request what its header ``x-answer`` says.

For callers that are compared: the same requests lead to the same ends, whoever sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Upstreams:
    """HTTP/1.1 servers, which answer with what the header says if that is a status, and with 200 without one.

    ``drop`` closes the connection instead, ``hang`` says nothing, ``hold`` begins to answer and does not go on. Every
    answer ends its connection: of one that was kept and breaks off, nobody can say whether the server failed.

    Attributes:
        addresses: of the servers. refusing: an address that accepts no connection.
    """

    def __init__(self, count: int) -> None:
        self._sockets = [_bound() for _ in range(count)]
        self._refusing = _bound()
        self.addresses = [_address(each) for each in self._sockets]
        self.refusing = _address(self._refusing)
        self._ready = Event()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="upstreams", daemon=True)

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and close all connections."""
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(30)
        self._refusing.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._main = asyncio.current_task()
        servers = [await asyncio.start_server(self._connected, sock=each) for each in self._sockets]
        self._ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            for server in servers:
                server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            what = headers.get("x-answer", "200")
            if what == "hang":
                await reader.read()
            elif what != "drop":
                own = "{}:{}".format(*writer.get_extra_info("sockname"))
                status, length = ("200", 1) if what == "hold" else (what, 0)
                lines = f"HTTP/1.1 {status} x", f"content-length: {length}", "connection: close", f"x-server: {own}"
                writer.write("\r\n".join((*lines, "", "")).encode())
                if what == "hold":
                    await reader.read()
        writer.close()


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def _address(bound: socket.socket) -> str:
    return "{}:{}".format(*bound.getsockname())
