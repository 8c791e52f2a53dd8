"""HTTP/1.1 as nearly all of it is, written and read in one go: a request, and an answer that says how long it is.

h11 reads a message line by line, and checks each against what HTTP allows; that is half of what a short request costs
us beyond httpx itself. Here one pattern looks at all lines at once. It lets through less than h11 does: whatever it
does not know to be harmless, from a second length to a space at the end of a line, is none of its business, and h11
is asked, which reads or refuses it. So there is one opinion on everything odd, and it is h11's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

Headers = list[tuple[bytes, bytes]]

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_FIELDS = re.compile(rb"(?m)^(" + _TOKEN + rb"):[ \t]*((?:[!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?)?)\r\n")
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.1\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: ([ -~\x80-\xff]*))?\r\n")

_BODILESS = frozenset({204, 304})


def _any(value: bytes) -> bool:  # noqa: ARG001 - one of several
    return True


def _keeps(value: bytes) -> bool:
    return value.lower() == b"keep-alive"


def _never(value: bytes) -> bool:  # noqa: ARG001 - one of several
    return False


_TELLING: dict[bytes, Callable[[bytes], object]] = {
    b"host": _any,
    b"connection": _keeps,
    b"content-length": re.compile(rb"[0-9]{1,18}").fullmatch,
    b"transfer-encoding": _never,
    b"expect": _never,
}
"""Headers that say something of the message itself or of the connection, and which values of theirs are plain."""


_REMEMBERED = 64
"""Blocks of headers that are remembered with what they mean, for requests and for answers: those of a client are alike,
and so are those of a server, within a second at least."""


class Head(NamedTuple):
    """What an answer begins with; ``length`` is that of its body, where it is known from the beginning."""

    status: int
    reason: bytes
    version: bytes
    headers: Headers
    length: int = -1


def written(method: str, target: Any, headers: Headers, body: bytes) -> bytes | None:
    """Return the head of a request as it is sent; None: there is something about it that h11 has to see."""
    if not isinstance(target, bytes):
        return None
    line = b"%b %b HTTP/1.1\r\n" % (method.encode(), target)
    found = _fields(tuple(headers))
    if found is None or _REQUEST_LINE.fullmatch(line) is None or found[1] != len(body):
        return None
    return b"%b%b\r\n" % (line, found[0])


def read(received: bytes, method: str) -> tuple[Head, bytes] | None:
    """Return the head of an answer, and what has come after it; None: h11 has to read it."""
    end = received.find(b"\r\n\r\n") + 2
    if end < 2:
        return None
    head = _head(received[:end])
    if head is None:
        return None
    if method == "HEAD" or head.status in _BODILESS:
        head = head._replace(length=0)
    return None if head.length < 0 else (head, received[end + 2 :])


@lru_cache(_REMEMBERED)
def upgrades(headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether a request asks for another protocol after it."""
    return b"upgrade" in {name.lower() for name, _ in headers}


@lru_cache(_REMEMBERED)
def _fields(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, int] | None:
    """Return the headers of a request as they are sent, and the length that they announce."""
    fields = b"".join([b"%b: %b\r\n" % header for header in headers])
    if tuple(_FIELDS.findall(fields)) != headers:
        return None  # read back, it would be another message
    told = _told(headers)
    if told is None or fields[:5].lower() != b"host:":
        return None  # h11 puts the host first
    length = told.get(b"content-length", b"0")
    return (fields, int(length)) if length == b"%d" % int(length) else None


@lru_cache(_REMEMBERED)
def _head(received: bytes) -> Head | None:
    """Return the head of an answer, with the length that it announces; nobody may change its headers."""
    line = _STATUS_LINE.match(received)
    if line is None:
        return None
    fields = received[line.end() :]
    headers = _FIELDS.findall(fields)
    told = _told(headers)
    if told is None or len(headers) != fields.count(b"\n"):
        return None
    return Head(int(line[1]), line[2] or b"", b"1.1", headers, int(told.get(b"content-length", -1)))


def _told(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes] | None:
    """Return what ``headers`` say of the message itself, each at most once; None: something that is not plain."""
    told: dict[bytes, bytes] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _TELLING:
            if lowered in told or not _TELLING[lowered](value):
                return None
            told[lowered] = value
    return told
