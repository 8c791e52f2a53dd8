"""Reading a file that others write, on a loop that serves everybody: nothing is waited for.

A pipe without a writer, and a device, would hold up all watches and heartbeats of a mesh. So what is no regular file is
refused before it is read.
"""

from __future__ import annotations

import errno
import os
import stat


class NotRegularError(OSError, ValueError):
    """What was to be read is of another kind: both "cannot be read" and "holds nothing of use"."""


def read_regular(name: str, most: int, directory: int | None = None, *, follow: bool = False) -> bytes:
    """Return up to ``most`` + 1 bytes of a regular file: who gets that one more knows that it is too large.

    Args:
        name: of the file. directory: descriptor of the one that it is in, where ``name`` is no path.
        follow: whether it may be a symlink, as a secret of a Kubernetes pod is.

    Raises:
        NotRegularError: it is of another kind. OSError: it is gone, or may not be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and not follow):  # a socket, a symlink
            raise _other_kind() from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _other_kind()
        with os.fdopen(descriptor, "rb", closefd=False) as file:  # reads on where one read stops short
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def _other_kind() -> NotRegularError:
    return NotRegularError(errno.EINVAL, "not a regular file")
