"""Ports that stay a test's own while nobody listens there: before its server is up, and between its death and return.

Linux draws the port of whoever wants any, out of some 7,000, and the tests of one run want thousands, in two processes
at once. So a port that was free a moment ago is soon somebody else's: a server that is to listen there does not start,
and one that should be gone answers.
"""

from __future__ import annotations

import socket
import sys
from types import TracebackType
from typing import Self


class HeldPort:
    """A port that is given to nobody who wants any, until this is closed. Connections are refused while none listens.

    A socket that is bound and does not listen holds it. A server is let in beside that because both say SO_REUSEADDR,
    as asyncio, gRPC, the servers of Python's library and those in Go do. Only Linux lets it in: elsewhere the port is
    one that was free a moment ago.

    Attributes:
        host: where it is. number: of the port.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self._holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._holder.bind((host, 0))
        except OSError:
            self._holder.close()
            raise
        self.number = int(self._holder.getsockname()[1])
        if sys.platform != "linux":
            self._holder.close()

    @property
    def address(self) -> str:
        """``host:port``, as an endpoint's address."""
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    def close(self) -> None:
        """Give it up; harmless when repeated."""
        self._holder.close()

    def __enter__(self) -> Self:
        """Return self; the port is given up on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it up."""
        self.close()
