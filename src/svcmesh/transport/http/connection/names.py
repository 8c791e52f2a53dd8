"""Resolving an endpoint's name inside the time of its attempt.

The system's resolver is the one that knows all of ``/etc/hosts``, search domains and whatever else a machine is set up
with, and it can neither be given a deadline nor be interrupted: with a name server that is silent it blocks for 5 s and
more. So it is asked on threads that nobody waits for longer than he has time. One name is asked for at most once at a
time, however many connections want it, and a thread that is stuck holds up neither a caller nor the interpreter's end.
"""

from __future__ import annotations

import copy
import os
import socket
from collections import deque
from concurrent.futures import Future
from threading import Lock, Thread
from time import monotonic
from typing import Any

from svcmesh.core.address import Address
from svcmesh.core.wakeup import wakeup

Target = tuple[int, Any]
"""A family and a socket address, to connect to."""

MOST = 16
"""Names asked for at once. Further ones wait their turn, each as long as its attempt has time."""

FRESH = 1.0
"""Seconds for which an answer is used again: a burst of new connections asks once, and a change is seen soon."""

_Name = tuple[str, int]
_Asked = Future[list[Target] | Exception]


class Names:
    """What the system's resolver says, asked on daemon threads that end when there is nothing more to ask.

    Threads: any.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, also in a forked child: the threads are the parent's, and so is whoever holds the lock."""
        self._lock = Lock()
        self._asked: dict[_Name, _Asked] = {}
        self._queue: deque[_Name] = deque()
        self._known: dict[_Name, tuple[float, list[Target]]] = {}
        self._threads = 0

    def wait(self, address: Address, timeout: float | None) -> list[Target]:
        """Return what the name of ``address`` stands for, and block for that at most ``timeout`` seconds.

        Raises:
            TimeoutError: it was not known in time.
            OSError, UnicodeError: the resolver's own: nobody has that name, or nobody can.
        """
        try:
            answer = self._ask(address).result(timeout)
        except TimeoutError:
            raise TimeoutError(self.late(address)) from None
        return _said(answer)

    async def wait_async(self, address: Address) -> list[Target]:
        """Return the same; a cancellation ends the wait, and leaves nothing behind on the loop."""
        asked = self._ask(address)
        if not asked.done():
            there, wake = wakeup()
            asked.add_done_callback(wake)
            await there
        return _said(asked.result())

    def late(self, address: Address) -> str:
        """Say what a connect that took too long waited for: a name, or a server."""
        if (address.host, address.port) not in self._asked:
            return "timed out"
        waiting = len(self._queue)
        also = f"; {waiting} more names wait to be asked for, because {MOST} at a time are" if waiting else ""
        return f"the system's resolver has not said in time what {address.host!r} stands for{also}"

    def _ask(self, address: Address) -> _Asked:
        """Return where the answer is, or will be. It cannot be cancelled: others may wait for it, too."""
        name = address.host, address.port
        with self._lock:
            known = self._known.get(name)
            if known is not None and monotonic() - known[0] < FRESH:
                return _answered(known[1])
            return self._asked.get(name) or self._enqueue(name)

    def _enqueue(self, name: _Name) -> _Asked:
        if self._threads < MOST:
            try:
                Thread(target=self._work, name="svcmesh-names", daemon=True).start()
            except RuntimeError as error:  # the system gives no more threads, or the interpreter ends
                if not self._threads:
                    raise OSError(f"no thread to resolve {name[0]!r} on: {error}") from error
            else:
                self._threads += 1
        self._queue.append(name)
        asked: _Asked = Future()
        self._asked[name] = asked
        return asked

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                name = self._queue.popleft()
            answer: list[Target] | Exception
            try:
                found = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
                answer = [(family, target) for family, _, _, _, target in found]
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must be told
                answer = error
            self._note(name, answer).set_result(answer)

    def _note(self, name: _Name, answer: list[Target] | Exception) -> _Asked:
        with self._lock:
            now = monotonic()
            self._known = {each: known for each, known in self._known.items() if now - known[0] < FRESH}
            if not isinstance(answer, Exception):
                self._known[name] = now, answer
            return self._asked.pop(name)


names = Names()
"""Those of this process: its resolver is one for all meshes."""

os.register_at_fork(after_in_child=names.reset)


def _said(answer: list[Target] | Exception) -> list[Target]:
    if isinstance(answer, Exception):
        raise copy.copy(answer)  # each of those who waited gets one with a traceback of its own
    return answer


def _answered(answer: list[Target]) -> _Asked:
    found: _Asked = Future()
    found.set_result(answer)
    return found
