"""What a registration leaves behind that left in order: proof, so that nobody takes a lost file for one who left.

Files also vanish without their process's doing: a cleaner of /tmp, a wrong ``rm``. Those processes live, and heartbeats
bring their files back, so they must not be dropped meanwhile. Who leaves therefore renames its file instead of
removing it, to a name that says which one it was. Each id has one such name: who comes and goes fills no directory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from svcmesh.discovery.local.directory import remove_exactly, take_aside
from svcmesh.discovery.local.record import edition, stamp, stamped_at
from svcmesh.discovery.private_directory import TEMPORARY

KEPT = 5.0
"""Seconds that a tombstone stays: twenty looks of each reader. One that was stopped for longer waits for the TTL."""

_SUFFIX = "-left"
_SLACK = 0.001


def tombstone_of(name: str) -> str:
    """Return where it stands that the file ``name`` has left."""
    return f"{TEMPORARY}{name}{_SUFFIX}"


def is_tombstone(name: str) -> bool:
    """Whether a file says that another has left."""
    return name.startswith(TEMPORARY) and name.endswith(_SUFFIX)


def bury(directory: str, name: str, inode: int, mtime_ns: int, now: float) -> bool:
    """Make the tombstone of ``name`` of it, only if it is the file with this inode and time stamp; return whether.

    It is taken aside and stamped before it says anything: whoever is killed on the way has vanished without a word, and
    one that has come meanwhile was never said to have left.

    Raises:
        OSError: anything but a file that is gone already.
    """
    aside = take_aside(directory, name, inode, mtime_ns)
    if aside is None:
        return False
    left = stamp(now, edition(mtime_ns))
    os.utime(aside, ns=(left, left), follow_symlinks=False)
    aside.rename(f"{directory}/{tombstone_of(name)}")
    return True


def proves(mtime_ns: int, since: float, now: float) -> bool:
    """Whether a tombstone of this time stamp is of one who registered at ``since``, and of no earlier one.

    One in the future is from before a reboot, or a foreign hand has touched it.
    """
    return since - 1e-6 <= stamped_at(mtime_ns) <= now + _SLACK  # stamps are cut to microseconds


def sweep(directory: str, now: float) -> None:
    """Remove tombstones that all readers have seen. What cannot be removed stays: it means nothing any more."""
    with suppress(OSError):
        for name in filter(is_tombstone, os.listdir(directory)):  # noqa: PTH208 - pathlib's is slower
            with suppress(FileNotFoundError):
                found = Path(f"{directory}/{name}").lstat()
                if not now - KEPT < stamped_at(found.st_mtime_ns) <= now + _SLACK:
                    remove_exactly(directory, name, found.st_ino, found.st_mtime_ns)
