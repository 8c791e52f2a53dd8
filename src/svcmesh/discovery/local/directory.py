"""The directory of the embedded registry: private to its user, and changed only in ways that readers can survive.

Whoever can write here decides where a program's calls go, so a directory that others may enter is refused rather
than repaired: somebody may have put something into it already. Inside it no lock is taken, because a process that
is stopped while it holds one would stop all others. Every change is one rename instead.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from svcmesh.core.errors import ConfigError, DiscoveryError

TEMPORARY = ".tmp-"
"""How names begin that stand for nothing: files being written or removed."""

ATTEMPTS = 100
"""How often a directory that vanishes is made again: each time somebody else must leave within microseconds."""

_numbers = count()


def default_directory(environ: Mapping[str, str]) -> str:
    """Return where ``local://`` is: SVCMESH_LOCAL_DIR, else below XDG_RUNTIME_DIR, else ``/tmp/svcmesh-<uid>``.

    ``/tmp`` and not TMPDIR, which may differ between two processes that want to meet.

    Raises:
        ConfigError: SVCMESH_LOCAL_DIR is no absolute path.
    """
    directory = environ.get("SVCMESH_LOCAL_DIR")
    if directory:
        if not directory.startswith("/") or "\0" in directory:
            raise ConfigError(f"SVCMESH_LOCAL_DIR must be an absolute path, not {directory!r}")
        return directory
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/svcmesh" if runtime.startswith("/") else f"/tmp/svcmesh-{os.geteuid()}"  # noqa: S108 - see below


def check_private(path: str) -> bool:
    """Return whether ``path`` exists; a predictable name in /tmp is safe only together with this check.

    Raises:
        DiscoveryError: it is no directory (a symlink is none), belongs to somebody else, or others may enter it.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DiscoveryError(f"cannot look at the registry directory {path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "a file"
        raise DiscoveryError(f"the registry directory {path} is {kind}; remove it, or set SVCMESH_LOCAL_DIR")
    if found.st_uid != os.geteuid():
        raise DiscoveryError(
            f"the registry directory {path} belongs to user {found.st_uid}, not to {os.geteuid()}; "
            "set SVCMESH_LOCAL_DIR to one that is yours"
        )
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise DiscoveryError(f"others may enter the registry directory {path} (mode {mode:04o}); run chmod 700 {path}")
    return True


def make_private(path: str) -> None:
    """Create ``path`` with mode 0700 unless it is there, and check it either way.

    Whoever leaves last takes the directory along, perhaps between our making it and our look: it is then made again.

    Raises:
        DiscoveryError: it cannot be created, or what is there is not private.
    """
    for _ in range(ATTEMPTS):
        if check_private(path):
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(0o700)
        except (FileExistsError, FileNotFoundError):
            continue  # another process was faster, either way; what it made is checked like anything else
        except OSError as error:
            raise DiscoveryError(f"cannot create the registry directory {path}: {error.strerror}") from None
    if not check_private(path):
        raise DiscoveryError(f"the registry directory {path} vanishes whenever it is created")


def write_atomically(directory: str, name: str, content: bytes, mtime_ns: int) -> int:
    """Put ``content`` at ``name`` in one step, whatever was there, and return the inode.

    Readers find the old file or the new one. It is not synced: a file torn by a power cut is of another boot.

    Raises:
        OSError: the directory is missing, full, or holds a directory of that name.
    """
    temporary = f"{directory}/{TEMPORARY}{os.getpid()}-{next(_numbers)}-{mtime_ns}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            inode = os.fstat(descriptor).st_ino
        Path(temporary).rename(f"{directory}/{name}")
    except BaseException:
        Path(temporary).unlink()
        raise
    return inode


def remove_exactly(directory: str, name: str, inode: int, mtime_ns: int | None = None) -> bool:
    """Remove ``name`` only if it is the file with this inode (and time stamp); return whether it was.

    Looking first and removing then would lose a registration that came in between. So the file is taken aside, looked
    at, and put back if it is another, unless a still newer one has taken its place.

    Raises:
        OSError: anything but a file that is gone already.
    """
    aside = Path(f"{directory}/{TEMPORARY}{os.getpid()}-{next(_numbers)}-gone")
    try:
        Path(f"{directory}/{name}").rename(aside)
    except FileNotFoundError:
        return False
    found = aside.lstat()
    meant = found.st_ino == inode and mtime_ns in {None, found.st_mtime_ns}
    if not meant:
        with suppress(FileExistsError):
            os.link(aside, f"{directory}/{name}", follow_symlinks=False)
    aside.unlink()
    return meant


def remove_if_empty(directory: str) -> None:
    """Remove a directory that holds nothing; a writer that meets this finds it gone and makes it again."""
    with suppress(OSError):
        Path(directory).rmdir()


def read_regular(name: str, most: int, directory: int | None = None) -> bytes:
    """Return up to ``most`` + 1 bytes of a regular file; it neither follows a symlink nor waits for a FIFO's writer.

    Raises:
        ValueError: not a regular file. OSError: it is gone, or may not be read.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a symlink, a socket
            raise ValueError("not a regular file") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return os.read(descriptor, most + 1)
    finally:
        os.close(descriptor)
