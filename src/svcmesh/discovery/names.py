"""Service names and ids as file names: any text in, one safe path component out.

A name comes from configuration, from the host part of a URL, or from a caller, so it may hold slashes, dots, NUL or
ten thousand letters. Quoting is injective, so that two names never share a file; nothing it returns climbs out of
its directory, is hidden, or is longer than a file system takes.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, unquote

from svcmesh.core.errors import ConfigError

LONGEST_NAME = 4096
"""Characters that a name may have: a limit that no honest name meets, so that a hostile one costs little."""

_LONGEST_FILE = 180  # of the 255 bytes that file systems take: the rest is for a suffix and for the hash below
_KEPT = 100
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def quote_name(field: str, name: str) -> str:
    """Return ``name`` as one path component of at most 180 ASCII characters; ``field`` is for the error.

    Letters, digits, ``_``, ``-`` and dots that do not lead stay as they are. A name that would be too long keeps its
    beginning, and a SHA-256 behind a ``~`` (which is quoted everywhere else) tells it from others.

    Raises:
        ConfigError: not a string, empty, longer than 4096 characters, or no valid Unicode.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{field} must be a non-empty string, not {name!r}")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{field} must have at most {LONGEST_NAME} characters, not {len(name)} ({name[:40]!r}…)")
    try:
        quoted = quote(name, safe="").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{field} {name!r} is no valid Unicode text: {error.reason}") from None
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= _LONGEST_FILE:
        return quoted
    return f"{quoted[:_KEPT]}~{hashlib.sha256(name.encode()).hexdigest()}"


def unquote_name(quoted: str) -> str | None:
    """Return the name that `quote_name` made ``quoted`` of; None for what it did not make, or cannot be undone."""
    if len(quoted) <= _LONGEST_FILE and _PLAIN.fullmatch(quoted):
        return quoted  # nearly all are, and a directory may hold hundreds
    name = unquote(quoted)
    return name if name and len(name) <= LONGEST_NAME and quote_name("name", name) == quoted else None
