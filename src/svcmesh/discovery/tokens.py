"""Tokens: what a header can hold, and files that hold them. They rotate, so a file is read for every request.

That is done on the worker, beside all watches and heartbeats: what would make it wait, as a pipe does, is no such file.
A token is never repeated, whatever is wrong with it.
"""

from __future__ import annotations

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.regular_file import read_regular

LONGEST = 16_384
"""Characters that a token may have."""

ADVICE = "it has to be a regular file that this process may read, each time anew"
"""What helps where a secret's file cannot be read."""


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
        content = read_regular(file, LONGEST + 1, follow=True)
    except OSError as error:
        raise DiscoveryError(f"cannot read {whose} token from {file}: {error.strerror}; {ADVICE}") from None
    token = content.decode("ascii", errors="replace").strip()
    check_token(token, whose, f"the file {file}", DiscoveryError)
    return token
