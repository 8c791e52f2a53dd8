"""The DNS of a fake Consul on the wire: UDP and TCP on one port. What is no question is not answered."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress

from svcmesh.testing.consul.dns_answers import DnsAnswers

_TRIES = 20  # free ports of TCP that are taken for UDP


class DnsWire:
    """Serves questions.

    Args:
        answers: makes answers. host, port: where it listens; port 0 takes a free one, which is kept.

    Threads: one loop.
    """

    def __init__(self, answers: DnsAnswers, host: str, port: int) -> None:
        self.port = port
        self._answers = answers
        self._host = host
        self._server: asyncio.Server | None = None
        self._udp: socket.socket | None = None

    async def listen(self) -> None:
        """Answer from now on.

        Raises:
            OSError: the port is taken.
        """
        for left in reversed(range(_TRIES if self.port == 0 else 1)):
            server = await asyncio.start_server(self._connected, self._host, self.port)
            port = server.sockets[0].getsockname()[1]
            try:
                udp = _bound(self._host, port)
            except OSError as error:
                server.close()
                if error.errno != errno.EADDRINUSE or not left:
                    raise
            else:
                self._server, self._udp, self.port = server, udp, port
                asyncio.get_running_loop().add_reader(udp, self._received, udp)
                return

    def close(self) -> None:
        """Listen no more; connections end with the tasks that serve them."""
        if self._server is not None:
            self._server.close()
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()
        self._server = self._udp = None

    def _received(self, udp: socket.socket) -> None:
        """Answer a datagram."""
        with suppress(OSError):  # it is gone again, or who sent it
            wire, sender = udp.recvfrom(65_535)
            answer = self._answers.answer(wire, by_tcp=False)
            if answer is not None:
                udp.sendto(answer, sender)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection until it ends, or asks none."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while (answer := self._answers.answer(await _framed(reader), by_tcp=True)) is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except asyncio.CancelledError:
            pass  # the server is stopped; asyncio's streams would report it as an error
        finally:
            writer.transport.abort()


async def _framed(reader: asyncio.StreamReader) -> bytes:
    """Return one message of a connection: its length stands before it (RFC 1035, 4.2.2)."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def _bound(host: str, port: int) -> socket.socket:
    udp = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        udp.bind((host, port))
    except OSError:
        udp.close()
        raise
    return udp
