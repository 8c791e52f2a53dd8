"""A directory that is private to its user, and changed only in ways that readers can survive.

Whoever can write here decides where a program's calls go, so a directory that others may enter is refused rather
than repaired: somebody may have put something into it already. Inside it no lock is taken, because a process that
is stopped while it holds one would stop all others. Every change is one rename instead.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from svcmesh.core.errors import DiscoveryError

TEMPORARY = ".tmp-"
"""How names begin that stand for nothing: files being written or removed."""

ATTEMPTS = 100
"""How often a directory that vanishes is made again: each time somebody else must leave within microseconds."""

_numbers = count()


@dataclass(frozen=True, slots=True)
class Role:
    """What a directory is for, as errors say it: what it is called, and what is set to have another."""

    name: str
    setting: str


def check_private(path: str, role: Role) -> bool:
    """Return whether ``path`` exists; a predictable name in /tmp is safe only together with this check.

    Raises:
        DiscoveryError: it is no directory (a symlink is none), belongs to somebody else, or others may enter it.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DiscoveryError(f"cannot look at the {role.name} {path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "a file"
        raise DiscoveryError(f"the {role.name} {path} is {kind}; remove it, or set {role.setting}")
    if found.st_uid != os.geteuid():
        raise DiscoveryError(
            f"the {role.name} {path} belongs to user {found.st_uid}, not to {os.geteuid()}; "
            f"set {role.setting} to one that is yours"
        )
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise DiscoveryError(f"others may enter the {role.name} {path} (mode {mode:04o}); run chmod 700 {path}")
    return True


def make_private(path: str, role: Role) -> None:
    """Create ``path`` with mode 0700 unless it is there, and check it either way.

    Whoever leaves last takes the directory along, perhaps between our making it and our look: it is then made again.

    Raises:
        DiscoveryError: it cannot be created, or what is there is not private.
    """
    for _ in range(ATTEMPTS):
        if check_private(path, role):
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(0o700)
        except (FileExistsError, FileNotFoundError):
            continue  # another process was faster, either way; what it made is checked like anything else
        except OSError as error:
            raise DiscoveryError(f"cannot create the {role.name} {path}: {error.strerror}") from None
    if not check_private(path, role):
        raise DiscoveryError(f"the {role.name} {path} vanishes whenever it is created")


def temporary_name() -> str:
    """Return the name of a file that stands for nothing, and that nobody else uses."""
    return f"{TEMPORARY}{os.getpid()}-{next(_numbers)}"


def write_atomically(directory: str, name: str, content: bytes, mtime_ns: int, *, sync: bool = False) -> int:
    """Put ``content`` at ``name`` in one step, whatever was there, and return the inode.

    Readers find the old file or the new one. Unless it is ``sync``, which waits for the disk, a power cut may leave an
    empty file, or half of one.

    Raises:
        OSError: the directory is missing, full, or holds a directory of that name.
    """
    temporary = f"{directory}/{temporary_name()}-{mtime_ns}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            inode = os.fstat(descriptor).st_ino
            if sync:
                os.fsync(descriptor)
        Path(temporary).rename(f"{directory}/{name}")
    except BaseException:
        Path(temporary).unlink()
        raise
    return inode
