"""What an API server can do wrong: a table of answers, and of ends that a watch can come to."""

from __future__ import annotations

import json
from typing import Any

from tests.servers.kubernetes.objects import UNAUTHORIZED, bookmark, forbidden, status, too_old

JSON = "application/json"

ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "401": (401, {"Content-Type": JSON}, json.dumps(UNAUTHORIZED).encode()),
    "403": (403, {"Content-Type": JSON}, json.dumps(forbidden("list", "prod")).encode()),
    "404": (404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n"),
    "410": (410, {"Content-Type": JSON}, json.dumps(too_old("1", 9)).encode()),
    "429": (
        429,
        {"Content-Type": "text/plain; charset=utf-8", "Retry-After": "1"},
        b"Too many requests, please try again later.\n",
    ),
    "500": (500, {"Content-Type": JSON}, json.dumps(status(500, "", "etcdserver: leader changed")).encode()),
    "503": (503, {"Content-Type": "text/plain"}, b"service unavailable\n"),
    "504": (504, {"Content-Type": JSON}, json.dumps(status(504, "Timeout", "the server was unable", x=1)).encode()),
    "garbage": (200, {"Content-Type": JSON}, b"\x00\xff garbage \n"),
    "half": (200, {"Content-Type": JSON}, b'{"kind":"EndpointSliceList","metadata":{"resourceVersion":"1"},"ite'),
    "null": (200, {"Content-Type": JSON}, b"null\n"),
    "array": (200, {"Content-Type": JSON}, b"[]\n"),
    "no-version": (200, {"Content-Type": JSON}, b'{"kind":"EndpointSliceList","metadata":{},"items":[]}\n'),
    "html": (200, {"Content-Type": "text/html"}, b"<html>please log in</html>"),
    "redirect": (302, {"Location": "", "Content-Type": "text/html"}, b"moved"),
    "deep": (200, {"Content-Type": JSON}, b"[" * 200_000 + b"\n"),
}
"""Whole answers. A redirect leads to where it came from, for ever."""

OTHERS = ("drop", "cut", "huge", "freeze")
"""Closes without a word; ends in the middle; 70 MB; says nothing."""

LINES: dict[str, bytes] = {
    "line-garbage": b"\x00\xff garbage\n",
    "line-half": b'{"type":"MODIFIED","object":{"kind":"EndpointSl',
    "line-unknown": b'{"type":"SURPRISE","object":{}}\n',
    "line-empty-object": b'{"type":"ADDED","object":{}}\n',
    "line-bookmark-without-version": b'{"type":"BOOKMARK","object":{"metadata":{}}}\n',
    "line-410": json.dumps({"type": "ERROR", "object": too_old("1", 9)}).encode() + b"\n",
    "line-500": json.dumps({"type": "ERROR", "object": status(500, "", "etcdserver: no leader")}).encode() + b"\n",
    "line-error": b'{"type":"ERROR"}\n',
}
"""What a watch says, before it ends."""

LINE_HUGE = "line-huge"
"""A line of 50 MB."""

SILENT = "line-silent"
"""A watch that begins well and never says anything."""

KINDS = (*ANSWERS, *OTHERS, *LINES, LINE_HUGE, SILENT)


def line(found: dict[str, Any]) -> bytes:
    """Return an event as it goes over the wire."""
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def bookmark_line(version: int) -> bytes:
    """Return a bookmark as it goes over the wire."""
    return line(bookmark(version))
