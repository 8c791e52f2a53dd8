"""One request over HTTP/2 and its answer, as far as they have come: what a conversation fills and a caller empties."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Headers = list[tuple[bytes, bytes]]


class Stream:
    """A request and its answer.

    Attributes:
        number: its id on the wire.
        status: that of the answer; None: it has not come yet.
        headers: those of the answer, in their order. Trailers are dropped, as httpcore does.
        parts: what has come of the body and has not been taken, each with what it cost of the window.
        ended: the whole answer has come.
        sent: the whole request is on its way.
        starved: its body waits for the server to open a window.
        failure: why nothing more will come; raised when `parts` are used up.
        ring: tells whoever waits for it that something has changed.
    """

    __slots__ = ("ended", "failure", "headers", "number", "parts", "ring", "sent", "starved", "status")

    def __init__(self, number: int, ring: Callable[[], object]) -> None:
        self.number = number
        self.ring = ring
        self.status: int | None = None
        self.headers: Headers = []
        self.parts: deque[tuple[bytes, int]] = deque()
        self.ended = False
        self.sent = False
        self.starved = False
        self.failure: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.failure is not None

    @property
    def headed(self) -> bool:
        """Whether its caller can go on: the head of the answer is here, or none will come."""
        return self.status is not None or self.over

    @property
    def readable(self) -> bool:
        """Whether its caller can take a part of the body, or be told that there is none."""
        return bool(self.parts) or self.over

    def fail(self, failure: Exception) -> None:
        """Note that nothing more will come; what is complete stays complete."""
        if not self.over:
            self.failure = failure

    def answer(self, fields: Headers) -> None:
        """Take the head of the answer, pseudo headers first.

        Raises:
            ValueError: it has no status.
        """
        said = None
        for name, value in fields:
            if name == b":status":
                said = value
            elif not name.startswith(b":"):
                self.headers.append((name, value))
        if said is None or not said.isdigit():
            raise ValueError(f"an answer has {'no status' if said is None else f'the status {said!r}'}")
        self.status = int(said)
