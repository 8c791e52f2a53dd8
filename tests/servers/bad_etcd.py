"""Something on etcd's port that answers any request with the bytes a test wants, in a thread.

Requests are read as HTTP; each answer is a whole response, whatever its body is, or None for silence.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Answer = Callable[[str, Any], bytes | None]
"""Makes a response of path and body of a request; None: nothing ever comes."""


class BadEtcd:
    """Answers on 127.0.0.1.

    Args:
        answer: called for each request, on a thread of its own.

    Attributes:
        asked: path, headers and body of every request.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="bad-etcd")

    @property
    def address(self) -> str:
        """``host:port``, for URIs."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Start it."""
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, and whatever it is in the middle of."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listening.close()
        for client in list(self._open):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._open.add(client)
            thread = threading.Thread(target=self._serve, args=(client,), name="bad-etcd-client")
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(60)
            request = _read(client)
            if request is not None:
                self.asked.append(request)
                response = self.answer(request[0], request[2])
                if response is None:
                    client.recv(1)  # until the other side, or the test, has had enough
                else:
                    client.sendall(response)
        self._open.discard(client)


def respond(body: Any, status: str = "200 OK", kind: str = "application/json", missing: int = 0) -> bytes:
    """Return a response; what is no bytes is written as JSON. ``missing``: how many bytes of it never come."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(content) + missing
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
    return head.encode() + content


def _read(client: socket.socket) -> tuple[str, dict[str, str], Any] | None:
    """Return path, headers by lower-case name, and the body of one request."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65536)
        if not part:
            return None
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        part = client.recv(65536)
        if not part:
            return None
        body += part
    return first.split()[1], headers, json.loads(body) if body else None
