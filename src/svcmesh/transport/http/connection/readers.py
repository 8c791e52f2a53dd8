"""Waiting for sockets of a loop to have something to read, without telling the loop of each wait.

To have a loop watch a socket and leave it again takes two calls of the kernel and more work than all else that is done
to read a short answer. So the sockets of a loop are in an epoll of ours, each for as long as it is open, and the loop
watches that one. It tells of a socket when something comes (EPOLLET), waited for or not; and the kernel itself takes
out a socket that is closed, on whatever thread, or dropped, which a loop would have to be told of beforehand.

Where there is no epoll, the loop is told of each wait, as it is of sockets that take nothing more for now.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from svcmesh.transport.http.connection.alarm import settle


class Watcher(Protocol):
    """Who sees when a socket is ready. Threads: only the loop's own."""

    def join(self, descriptor: int) -> None:
        """Take in a socket, before the first wait for it."""

    def watch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """Settle ``ready`` when the socket is, or seems so: it may have been, and be no longer."""

    def unwatch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """Leave ``ready`` alone from now on; harmless where it was settled."""


class Readers:
    """An epoll of the sockets of one loop, and the waits for them.

    What comes while nobody waits is remembered in ``_early``, since it is told once. A number there, or an event, may
    be that of a socket which was closed, and whose number another one has now: that one looks in vain once.
    """

    __slots__ = ("_early", "_epoll", "_waits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._early: set[int] = set()
        self._waits: dict[int, asyncio.Future[bool]] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def join(self, descriptor: int) -> None:
        """As of `Watcher`."""
        self._early.discard(descriptor)
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def watch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """As of `Watcher`."""
        if descriptor in self._early:
            self._early.remove(descriptor)
            settle(ready, True)
        else:
            self._waits[descriptor] = ready

    def unwatch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """As of `Watcher`."""
        if self._waits.get(descriptor) is ready:
            del self._waits[descriptor]

    def _look(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            ready = self._waits.pop(descriptor, None)
            if ready is None:
                self._early.add(descriptor)
            else:
                settle(ready, True)


class Told:
    """A loop that is told of each wait."""

    __slots__ = ("_add", "_remove")

    def __init__(self, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        self._add = add
        self._remove = remove

    def join(self, descriptor: int) -> None:
        """There is nothing to do."""

    def watch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """As of `Watcher`."""
        self._add(descriptor, settle, ready, True)

    def unwatch(self, descriptor: int, ready: asyncio.Future[bool]) -> None:
        """As of `Watcher`."""
        self._remove(descriptor)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Readers] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_of_loops.clear)  # an epoll of the parent's tells, and hears, the parent


def readers(loop: asyncio.AbstractEventLoop) -> Watcher:
    """Return who watches what is to be read on ``loop``, which runs on this thread."""
    if not hasattr(select, "epoll"):
        return Told(loop.add_reader, loop.remove_reader)
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = Readers(loop)
    return found


def writers(loop: asyncio.AbstractEventLoop) -> Watcher:
    """Return who sees when something more can be written."""
    return Told(loop.add_writer, loop.remove_writer)
