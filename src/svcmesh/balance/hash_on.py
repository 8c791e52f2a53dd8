"""What the key of a call is made of: how `Policy(hash_on=…)` is written, and Envoy's way to put several into one.

A rule reads one thing of a request and hashes it. Where there are several rules, each hash is rotated by a bit before
the next is mixed in, so that equal values do not cancel each other out; a terminal rule that found something, or comes
after one that did, ends it. A call of which no rule finds anything goes to a random endpoint.

Source: Envoy, hash_policy.cc; gRFC A42, which is equal but for headers with several values.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from svcmesh.core import checks
from svcmesh.core.errors import ConfigError
from svcmesh.core.hashing import hash_key, xxh64

_MASK = (1 << 64) - 1


class Subject(Protocol):
    """A request, as far as its key can be made of it."""

    def headers(self, name: str) -> Sequence[bytes]:
        """Return the values of a header, or of metadata; the name is in lower case."""

    def query(self, name: str) -> bytes | None:
        """Return the first value of a parameter of the URL, as it was sent."""

    def computed(self, fn: Callable[..., Any]) -> Any:
        """Return what ``fn`` says of the request; None where there is nothing to show it."""


class Rule(ABC):
    """What rules have in common; a subclass says what it reads."""

    terminal: bool

    @abstractmethod
    def hash_of(self, subject: Subject) -> int | None:
        """Return a hash from 0 to 2**64 - 1, or None where the request has nothing to hash."""


@dataclass(frozen=True)
class _Named(Rule):
    """What is found in a request by a name."""

    name: str
    terminal: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name of a {type(self).__name__} must be a text that is not empty, not {self.name!r}")
        checks.flag("terminal", self.terminal)


@dataclass(frozen=True)
class Header(_Named):
    """A header of HTTP, or the metadata of gRPC, with this name.

    Args:
        name: its case does not matter. Binary metadata (``…-bin``) is not read, as in gRPC. ``:path`` is the path of
            the URL with its query, on gRPC the method; HTTP also has ``:method``, ``:authority`` and ``:scheme``.
        terminal: with several rules, do not ask those after it once there is a hash; default False.

    Of several values HTTP hashes all, in no order, as Envoy does, and of some headers, as of all in gRPC, one text of
    them, joined by commas.

    Raises:
        ConfigError: no name, or ``terminal`` is neither True nor False.
    """

    def hash_of(self, subject: Subject) -> int | None:
        """Return the hash of its values."""
        values = sorted(subject.headers(self.name.lower()))
        if not values:
            return None
        found = 0
        for value in values:
            found = xxh64(value, found)
        return found


@dataclass(frozen=True)
class Cookie(_Named):
    """A cookie that the request carries. None is made: a client that keeps cookies has it from its first answer on.

    Args:
        name: exactly. terminal: as in `Header`.

    Raises:
        ConfigError: as in `Header`.
    """

    def hash_of(self, subject: Subject) -> int | None:
        """Return the hash of its value, without quotes; an empty one counts as none."""
        value = cookie(subject, self.name)
        return xxh64(value) if value else None


@dataclass(frozen=True)
class Query(_Named):
    """A parameter in the URL of an HTTP request; its first value counts, as it was sent, percent signs and all.

    Args:
        name: exactly. terminal: as in `Header`.

    Raises:
        ConfigError: as in `Header`.
    """

    def hash_of(self, subject: Subject) -> int | None:
        """Return the hash of its value."""
        value = subject.query(self.name)
        return None if value is None else xxh64(value)


@dataclass(frozen=True)
class Source(Rule):
    """Where the call comes from: all calls of one host belong together.

    Args:
        address: what the host is called; None (default) for its own name. Envoy hashes the IP address that it sees:
            give that one to meet the same endpoint. terminal: as in `Header`.

    Raises:
        ConfigError: as in `Header`.
    """

    address: str | None = None
    terminal: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.address is not None and (not isinstance(self.address, str) or not self.address):
            raise ConfigError(f"address of a Source must be a text or None, not {self.address!r}")
        checks.flag("terminal", self.terminal)

    def hash_of(self, subject: Subject) -> int | None:  # noqa: ARG002 - the same for all
        """Return the hash of the address."""
        return hash_key(socket.gethostname() if self.address is None else self.address)


@dataclass(frozen=True)
class Computed(Rule):
    """What a function says: text or bytes, which are hashed; a number, which is the hash; or None for nothing.

    Args:
        fn: called with the `httpx.Request`, with the message of a gRPC call (not of one that streams its requests), or
            with the arguments of a guarded function, of a method with its object first. It must be quick, and may not
            block: it runs in each call.
        terminal: as in `Header`.

    Raises:
        ConfigError: ``fn`` cannot be called.
        TypeError: in a call: it returned something else. That, and what it raises itself, the caller gets; nothing is
            counted.
    """

    fn: Callable[..., str | bytes | int | None]
    terminal: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        if not callable(self.fn):
            raise ConfigError(f"fn must be a function that returns text, bytes, a number or None, not {self.fn!r}")
        checks.flag("terminal", self.terminal)

    def hash_of(self, subject: Subject) -> int | None:
        """Return the hash of what the function returns."""
        found = subject.computed(self.fn)
        if found is None:
            return None
        if isinstance(found, int) and not isinstance(found, bool):
            return found & _MASK
        if isinstance(found, str | bytes):
            return hash_key(found)
        raise TypeError(f"hash_on: a function must return text, bytes, a number or None, not {found!r}")


def rules(given: Any) -> tuple[Rule, ...]:
    """Return what was given as ``hash_on`` as rules: one or several, a function standing for `Computed`.

    Raises:
        ConfigError: something else.
    """
    if given is None:
        return ()
    parts = given if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)
    return tuple(_rule(part) for part in parts)


def cookie(subject: Subject, name: str) -> bytes | None:
    """Return the value of a cookie that a request carries, without quotes; None where it has none.

    As Envoy takes them apart (forEachCookie in http/utility.cc): a part without ``=`` is passed over, and of blanks
    only those before a name are no part of anything.
    """
    wanted = name.encode()
    for header in subject.headers("cookie"):
        for part in header.strip(b" \t").split(b";"):
            found, equals, value = part.lstrip(b" ").partition(b"=")
            if equals and found == wanted:
                return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    return None


def key_of(rules: Sequence[Rule], subject: Subject) -> int | None:
    """Return the key of a request, from 0 to 2**64 - 1; None where no rule finds anything."""
    key: int | None = None
    for rule in rules:
        found = rule.hash_of(subject)
        if found is not None:
            key = found if key is None else ((key << 1 | key >> 63) & _MASK) ^ found
        if key is not None and rule.terminal:
            break
    return key


def _rule(part: Any) -> Rule:
    if isinstance(part, Rule):
        return part
    if callable(part) and not isinstance(part, type):
        return Computed(cast("Callable[..., str | bytes | int | None]", part))
    raise ConfigError(f"hash_on must hold rules such as svcmesh.balance.Header('x-user'), or functions, not {part!r}")
