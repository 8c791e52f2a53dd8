"""What a request of the fake holds, and what becomes of it: answers, and errors in Consul's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))")


class HttpError(Exception):
    """An answer that is an error: a status and a line of plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in. ``query`` has every value by key; ``headers`` are by lower-case name."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def one(self, key: str, default: str = "") -> str:
        """Return the first value of a key."""
        return self.query.get(key, [default])[0]

    def flag(self, key: str) -> bool:
        """Whether a key is there that needs no value."""
        return key in self.query and self.one(key) != "false"

    def json(self) -> Any:
        """Return the body, decoded.

        Raises:
            HttpError: it is no JSON object.
        """
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise HttpError(400, f"Request decode failed: {error}") from None
        if not isinstance(found, dict):
            raise HttpError(400, "Request decode failed: expected an object")
        return found

    @property
    def token(self) -> str:
        """The ACL token, in any of the three ways to send it."""
        bearer = self.headers.get("authorization", "")
        sent = bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else ""
        return self.headers.get("x-consul-token", "") or sent or self.one("token")


@dataclass(slots=True)
class Reply:
    """A good answer: ``value`` is sent as JSON, None as an empty body."""

    value: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def seconds(text: str) -> float:
    """Return the seconds of a Go duration such as ``1m30s``.

    Raises:
        ValueError: it is none.
    """
    if text == "0":
        return 0.0
    if not text or _DURATION.sub("", text):
        raise ValueError(f"time: invalid duration {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
