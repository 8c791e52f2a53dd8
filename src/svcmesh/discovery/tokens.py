"""Tokens: what a header can hold, and files that hold them. They rotate, so a file is read for every request.

A token is never repeated, whatever is wrong with it.
"""

from __future__ import annotations

from pathlib import Path

from svcmesh.core.errors import ConfigError, DiscoveryError

LONGEST = 16_384
"""Characters that a token may have."""


def check_token(token: str, whose: str, where: str, kind: type[ConfigError | DiscoveryError] = ConfigError) -> None:
    """Refuse a token that no header can hold: ``whose`` it is, and ``where`` it stands, are for the error."""
    if len(token) > LONGEST or not all("!" <= letter <= "~" for letter in token):
        raise kind(f"{whose} token in {where} is none: it is too long, or holds a space or a letter beyond ASCII")


def token_in(file: str, whose: str) -> str:
    """Return the token in a file, as of now; "" for an empty file.

    Raises:
        DiscoveryError: the file cannot be read, or holds no token.
    """
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(LONGEST + 2)
    except OSError as error:
        raise DiscoveryError(f"cannot read {whose} token from {file}: {error.strerror}") from None
    token = content.decode("ascii", errors="replace").strip()
    check_token(token, whose, f"the file {file}", DiscoveryError)
    return token
