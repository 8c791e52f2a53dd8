"""A connection that may turn out to be shared: what it speaks is known when the server has chosen (by ALPN).

A trunk of HTTP/1.1 carries one call at a time, one of HTTP/2 as many as its server allows. Each call has a seat on it,
which is to its sender what a connection of its own would be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpcore

from svcmesh.transport.http.connection.lane import lane_of
from svcmesh.transport.http.connection.line import Line
from svcmesh.transport.http.connection.wire import Limit, Wire
from svcmesh.transport.http.connection.wire_asyncio import AsyncWire
from svcmesh.transport.http.http2.exchange import Exchange
from svcmesh.transport.http.http2.link import Link


class Trunk:
    """A connection to an endpoint, made at its first call.

    Attributes:
        origin: scheme, host and port that it speaks for. wire: the socket under it.
        http1: httpcore's connection, where it speaks HTTP/1.1. link: ours, where it speaks HTTP/2.
        used: it has carried a call before, so that the server may have closed it meanwhile.

    Threads: any, except that the first call has it alone until it is open.
    """

    _exchange: Callable[[Link, Limit, Any], Exchange]

    def __init__(self, origin: httpcore.Origin, wire: Wire | AsyncWire) -> None:
        self.origin = origin
        self.wire: Any = wire
        self.http1: Any = None
        self.link: Any = None
        self.used = False
        self._ended = False

    @property
    def opening(self) -> bool:
        """Whether it is not known yet what it speaks."""
        return self.link is None and self.http1 is None

    @property
    def capacity(self) -> int:
        """How many calls it carries at once; 0: no more of them."""
        if self._ended:
            return 0
        return 1 if self.link is None else self.link.conversation.capacity

    def speaks_two(self, link: Link, exchange: Callable[[Any, Limit, Any], Exchange]) -> None:
        """It is HTTP/2: ``exchange`` makes what carries a call."""
        self._exchange = exchange
        self.link = link

    def exchange(self, limit: Limit) -> Exchange:
        """Return what carries one call of HTTP/2."""
        return self._exchange(self.link, limit, self.wire.stream)

    def end(self) -> None:
        """Take no more calls."""
        self._ended = True

    def usable(self) -> bool:
        """Whether another call may be made on it, after it has been idle: read what has come meanwhile."""
        if self.link is None:
            return Seat(self).usable()
        with self.link.lock:
            self.link.pump()
        return self.capacity > 0

    def close(self) -> None:
        """Close the socket. Threads: any, while nobody reads or writes."""
        if self.link is not None:
            self.link.goodbye()
        self._ended = True
        self.wire.close()


class Berth:
    """What a seat on a shared connection has in place of a socket of its own: an end of its own."""

    def __init__(self, stream: Any) -> None:
        self.limit = Limit()
        self.stream = stream
        self.connected = True


class Seat(Line[Any]):
    """One call on a trunk."""

    __slots__ = ("trunk",)

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk.http1, trunk.wire)
        self.trunk = trunk
        self.used, trunk.used = trunk.used, True
        self.board()

    def board(self) -> None:
        """Take the way that the trunk turned out to offer."""
        trunk = self.trunk
        self.http = trunk.http1
        if self.used and trunk.http1 is not None:
            self.lane = lane_of(trunk.http1, trunk.wire.stream)
        if trunk.link is not None:
            wire: Any = Berth(trunk.wire.stream)
            wire.limit.until = self.wire.limit.until if self.wire is trunk.wire else None
            self.wire, self.http = wire, trunk.exchange(wire.limit)

    def idle(self) -> bool:
        """Whether it has come to its end in good order."""
        return self.http.idle if self.trunk.link is not None else super().idle()

    def leave(self, *, keep: bool) -> bool:
        """Let go of it; return whether the trunk goes on."""
        if self.trunk.link is None:
            if not keep:
                self.trunk.end()
        elif self.http is not None:
            self.http.leave()
        return self.trunk.capacity > 0

    def drop(self) -> None:
        """The same from a finalizer."""
        if self.trunk.link is None:
            self.trunk.close()
        else:
            self.http.drop()
