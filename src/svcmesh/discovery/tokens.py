"""Tokens: what a header can hold, and files that hold them. They rotate, so a file is read for every request.

That is done on the worker, beside all watches and heartbeats: what would make it wait, as a pipe does, is no such file.
A token is never repeated, whatever is wrong with it.
"""

from __future__ import annotations

import errno
import os
import stat

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
        content = read_now(file, LONGEST + 2)
    except OSError as error:
        raise DiscoveryError(f"cannot read {whose} token from {file}: {error.strerror}") from None
    token = content.decode("ascii", errors="replace").strip()
    check_token(token, whose, f"the file {file}", DiscoveryError)
    return token


def read_now(file: str, most: int) -> bytes:
    """Return up to ``most`` bytes of a regular file, without waiting for anybody who writes.

    Raises:
        OSError: it cannot be read, or is of another kind.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            what = "a directory" if stat.S_ISDIR(kind) else "not a regular file"
            raise OSError(errno.EINVAL, f"it is {what}, and read again and again")
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)
