"""What a fake Consul does wrong when told to: each is something that a registry, or a proxy before it, has done."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from svcmesh.core.errors import ConfigError

HUGE = 50 * 1024 * 1024

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"

CANNED: dict[str, tuple[int, str, bytes, dict[str, str]]] = {
    "500": (500, _TEXT, b"rpc error making call: rpc error: connection refused", {}),
    "no-leader": (500, _TEXT, b"No cluster leader", {}),
    "403": (403, _TEXT, b"ACL not found", {}),
    "404": (404, _TEXT, b"404 page not found", {}),
    "429": (429, _TEXT, b"rate limit exceeded, try again later or against a different server", {}),
    "503": (503, _TEXT, b"rate limit exceeded for operation that can only be performed by the leader", {}),
    "garbage": (200, _JSON, b"\x00\xff\xfe{[garbage", {"X-Consul-Index": "7"}),
    "half": (200, _JSON, b'[{"Node": {"Node": "n1", "Address": "10.0.0.1"}, "Serv', {"X-Consul-Index": "7"}),
    "object": (200, _JSON, b'{"error": "this is not a list"}', {"X-Consul-Index": "7"}),
    "null": (200, _JSON, b"null", {"X-Consul-Index": "7"}),
    "html": (200, "text/html", b"<html>Welcome to the corporate proxy</html>", {}),
    "redirect": (302, _TEXT, b"", {"Location": "/v1/health/service/again"}),
    "no-index": (200, _JSON, b"[]", {}),
    "bad-index": (200, _JSON, b"[]", {"X-Consul-Index": "-1"}),
    "empty": (200, _JSON, b"[]", {"X-Consul-Index": "18446744073709551615"}),
    "huge": (200, _JSON, b"", {"X-Consul-Index": "7"}),
}
"""Faults that are an answer: status, kind of content, body, headers."""

KINDS = (*CANNED, "freeze", "drop", "cut", "spin")
"""All faults: ``freeze`` never answers, ``drop`` hangs up, ``cut`` hangs up in the middle of a good answer, ``spin``
answers held questions at once, whatever their index."""


@dataclass(slots=True)
class Fault:
    """A fault in force: for paths that match ``path``, ``times`` times (None: until it is taken back)."""

    kind: str
    path: str = "*"
    times: int | None = None

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in KINDS:
            raise ConfigError(f"unknown fault {self.kind!r}; known are {', '.join(KINDS)}")

    def strikes(self, path: str) -> bool:
        """Whether it meets a request; each time counts."""
        if self.times == 0 or not fnmatchcase(path, self.path):
            return False
        if self.times is not None:
            self.times -= 1
        return True
