"""What a discovery URI is made of, and what every backend may ask of it: parts, query, decoded text.

Apart from the table of schemes (`uri`), so that a backend can read its own URI without importing the table that
imports the backend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import unquote

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery

SERVICE = "{service}"
"""Where the name of a service goes in the URI of a mesh."""

_USER = re.compile(r"//[^/?#]*@")
_LATE_AT = re.compile(r"([^/?#]*://)[^/?#]+[/?#].*@", re.DOTALL)
_TO_AT = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*:/+)?.*@", re.DOTALL)
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI in its parts, still percent-encoded; ``text`` is what error messages may show."""

    text: str
    scheme: str
    authority: str
    path: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an opener may need besides the URI."""

    clock: Clock
    emit: Emit
    environ: Mapping[str, str]


@runtime_checkable
class Unopened(Protocol):
    """A discovery that was made without knowing the mesh it is for: by `poll`, or of several others."""

    def opened(self, surroundings: Surroundings) -> Discovery:
        """Return the same by the clock of a mesh, and reporting to it."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one scheme is opened.

    ``complete``: whether the URI alone says which endpoints are meant, so that it can stand for a service
    (`Mesh.service(uri)`); else it needs a name besides. True, False, or a function that looks at the URI.
    ``alone``: opens one that stands for a service, where it would mean something else as a registry; None: it does not.
    """

    open: Callable[[Uri, Surroundings], Discovery]
    complete: bool | Callable[[Uri], bool]
    alone: Callable[[Uri, Surroundings], Discovery] | None = None

    def names_endpoints(self, uri: Uri) -> bool:
        """Whether ``uri`` needs no name besides."""
        return self.complete(uri) if callable(self.complete) else self.complete


def redacted(text: str) -> str:
    """Return ``text`` without a user part, and without the values of a query."""
    return re.sub(r"=[^&#]*", "=…", _USER.sub("//…@", text)) if "://" in text else text


def concealed(text: str) -> str:
    """Return what should have been a URI, and is none, without what may be a secret: all before an ``@``, and values.

    Where the slashes of a URI are mistyped, nothing says any more where its user part begins.
    """
    return re.sub(r"=[^&#]+", "=…", _TO_AT.sub(lambda found: f"{found[1] or ''}…@", text))


def guarded(text: str) -> str:
    """Return what an error may show of a URI: as `redacted`, and no more than the scheme where it may be mistyped.

    An ``@`` behind what seems to be the host may be the end of a password with a bare ``/``, ``?`` or ``#`` in it.
    """
    found = _LATE_AT.match(text)
    return redacted(text) if found is None else f"{found[1]}…"


def no_query(uri: Uri) -> None:
    """Refuse a query, where it would have no meaning.

    Raises:
        ConfigError: there is one.
    """
    if uri.query is not None:
        raise ConfigError(f"{uri.text!r}: {uri.scheme}:// takes no query")


def decoded(uri: Uri, part: str) -> str:
    """Return a part of ``uri`` without percent-encoding.

    Raises:
        ConfigError: it is no UTF-8, or holds NUL.
    """
    try:
        text = unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"{uri.text!r}: what is percent-encoded must be UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{uri.text!r} holds a NUL character")
    return text


def query_of(uri: Uri, known: Collection[str], repeated: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the values of the query by key, in order; a key without ``=`` has the value "".

    Args:
        uri: the URI.
        known: all keys that mean something.
        repeated: those of them that may stand several times.

    Raises:
        ConfigError: an unknown key, one twice, or one that is percent-encoded badly.
    """
    found: dict[str, list[str]] = {}
    for item in (uri.query or "").split("&"):
        if not item and not uri.query:
            continue
        key, _, value = item.partition("=")
        if key not in known:
            # see `guarded`
            told = "unknown key (in a password '?' is %3F)" if "@" in (uri.query or "") else f"unknown key {key!r}"
            raise ConfigError(f"{uri.text!r}: {told} in the query; known are {', '.join(sorted(known))}")
        if key in found and key not in repeated:
            raise ConfigError(f"{uri.text!r}: {key} stands twice in the query")
        found.setdefault(key, []).append(decoded(uri, value.replace("+", "%20")))
    return found


def flag_in(uri: Uri, query: Mapping[str, Sequence[str]], key: str) -> bool:
    """Whether ``key`` stands in the query and is not switched off.

    Raises:
        ConfigError: its value is neither true nor false.
    """
    if key not in query:
        return False
    value = query[key][0]
    if value not in {"", "true", "1", "false", "0"}:
        raise ConfigError(f"{uri.text!r}: {key} is true or false")
    return value not in {"false", "0"}


def seconds_in(uri: Uri, query: Mapping[str, Sequence[str]], key: str, low: float, high: float) -> float | None:
    """Return the seconds that ``key`` says, None where it does not stand in the query.

    Raises:
        ConfigError: no time, or one outside of ``low`` to ``high`` seconds.
    """
    if key not in query:
        return None
    found = _SECONDS.fullmatch(query[key][0])
    seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not low <= seconds <= high:
        raise ConfigError(f"{uri.text!r}: {key} is a time from {low:g} to {high:g} s, such as 30s or 500ms")
    return seconds
