"""Sticky sessions: a caller that was answered by one endpoint comes back to it, as long as that may be called.

Hashing sends a key to the endpoint that the table has for it, and to another one when the endpoints change. A session
names its endpoint itself: the first answer says who gave it, in a cookie or a header, and later requests bring that
along. So nothing is moved by endpoints that come, and no table is needed; only the one that goes loses its sessions.

In a header the value is the base64 of the endpoint's address, as Envoy has it; for a cookie see
`svcmesh.balance.session_cookie`. It can name nobody but an endpoint that discovery lists.

Source: Envoy, stateful_session.proto, cookie.cc, header.cc and override_host.rst; gRFC A55.
"""

from __future__ import annotations

import binascii
import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass

from svcmesh.balance import session_cookie
from svcmesh.balance.cell import Cell
from svcmesh.balance.hash_on import Subject, cookie
from svcmesh.balance.picker import Picker, addresses
from svcmesh.core import checks
from svcmesh.core.address import check_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"/[^;\x00-\x20\x7f]*|")


class SessionState(ABC):
    """Where the name of a session's endpoint stands; a subclass says it."""

    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        if not isinstance(self.name, str) or not _TOKEN.fullmatch(self.name):
            raise ConfigError(
                f"name of a {type(self).__name__} must be the name of a header or a cookie: {self.name!r}"
            )

    def address_of(self, subject: Subject) -> str | None:
        """Return the address that a request names; None where it has no session, or one that cannot be read."""
        value = self._value(subject)
        if not value:
            return None
        try:
            address = self._read(binascii.a2b_base64(value, strict_mode=True))
            check_address(address)
        except (ValueError, ConfigError):
            return None
        return address

    def covers(self, subject: Subject) -> bool:  # noqa: ARG002 - a subclass may look at it
        """Whether a request may belong to a session at all."""
        return True

    @abstractmethod
    def header(self, address: str) -> tuple[str, str]:
        """Return the header that tells a caller of an answer who gave it."""

    @abstractmethod
    def _value(self, subject: Subject) -> bytes | None:
        """Return what a request has there."""

    def _read(self, decoded: bytes) -> str:
        """Return the address that such a value names, or ValueError."""
        return decoded.decode()


@dataclass(frozen=True)
class CookieBasedSessionState(SessionState):
    """A cookie; clients that keep cookies, as httpx's do, need not know of it.

    It is Envoy's, whose own is read as well, and so is the one that gRPC (A55) makes; gRPC does not read Envoy's.

    Args:
        name: of the cookie.
        path: below which clients send it, and requests have sessions; default empty: below that of the request that
            begins one, and all have.
        ttl: seconds for which clients keep it; default 0: as long as they run.

    Raises:
        ConfigError: something that cannot stand in a cookie, a negative ``ttl``.
    """

    name: str
    path: str = ""
    ttl: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if not isinstance(self.path, str) or not _PATH.fullmatch(self.path):
            raise ConfigError(f"path of a cookie must begin with /, without blanks and semicolons, not {self.path!r}")
        checks.duration("ttl", self.ttl, zero=True)

    def header(self, address: str) -> tuple[str, str]:
        """Return the header that sets the cookie."""
        age = f"; Max-Age={max(1, round(self.ttl))}" if self.ttl else ""
        path = f"; Path={self.path}" if self.path else ""
        return "set-cookie", f'{self.name}="{session_cookie.written(address)}"{age}{path}; HttpOnly'

    def covers(self, subject: Subject) -> bool:
        """Whether the path of a request is that of the cookie, or below it."""
        own = self.path.encode()
        if own in (b"", b"/"):
            return True
        path = b"".join(subject.headers(":path"))
        return path.startswith(own) and (own.endswith(b"/") or path[len(own) : len(own) + 1] in b"/?#")

    def _value(self, subject: Subject) -> bytes | None:
        return cookie(subject, self.name) if self.covers(subject) else None

    def _read(self, decoded: bytes) -> str:
        return session_cookie.read(decoded)


@dataclass(frozen=True)
class HeaderBasedSessionState(SessionState):
    """A header of answers, which callers send along with later requests; on gRPC metadata of that name.

    Args:
        name: of the header; its case does not matter.

    Raises:
        ConfigError: no name of a header.
    """

    name: str

    def header(self, address: str) -> tuple[str, str]:
        """Return the header."""
        return self.name.lower(), written(address)

    def _value(self, subject: Subject) -> bytes | None:
        return next(iter(subject.headers(self.name.lower())), None)


@dataclass(frozen=True)
class StatefulSession:
    """Sessions that stay with an endpoint while it may be called: listed, well or degraded, not ejected.

    Args:
        session_state: where its name stands: `CookieBasedSessionState` or `HeaderBasedSessionState`.
        strict: a session whose endpoint may not be called has nobody; default False: the balancer chooses, and the
            session goes on there.

    Raises:
        ConfigError: another kind of state, or ``strict`` is neither True nor False.
    """

    session_state: SessionState
    strict: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.session_state, SessionState):
            kinds = "a CookieBasedSessionState or a HeaderBasedSessionState"
            raise ConfigError(f"session_state must be {kinds}, not {self.session_state!r}")
        checks.flag("strict", self.strict)

    def key_of(self, subject: Subject, key: int | None) -> int | None:
        """Return the key of a request: ``key``, and with a session one that names its endpoint besides."""
        address = self.session_state.address_of(subject)
        return key if address is None else Pinned.to(address, key, strict=self.strict)


class Pinned(int):
    """The key of a call that belongs to a session.

    Attributes:
        address: whom it names. key: the key that it has besides, if any. strict: as of its session.
    """

    address: str
    key: int | None
    strict: bool

    @classmethod
    def to(cls, address: str, key: int | None, *, strict: bool = False) -> Pinned:
        """Return a key that names ``address``."""
        found = cls(key or 0)
        found.address, found.key, found.strict = address, key, strict
        return found

    def choose(self, picker: Picker, exclude: Collection[Endpoint]) -> Cell | None:
        """Return the cell that it names, if ``picker`` is over it and it is not excluded."""
        cell = picker.at(self.address)
        return None if cell is None or self.address in addresses(exclude) else cell


def written(address: str) -> str:
    """Return the value that names an endpoint, as it stands in headers, and in cookies of gRPC."""
    return b64encode(address.encode()).decode()
