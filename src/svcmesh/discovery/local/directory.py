"""The directory of the embedded registry: where it is, and how what is in it is taken away.

It may lie in /tmp under a name that everybody can guess, so it is used only while it is private, see
`svcmesh.discovery.private_directory`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.private_directory import Role, temporary_name

REGISTRY = Role("registry directory", "SVCMESH_LOCAL_DIR")
"""What errors call it."""


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
    return f"{runtime}/svcmesh" if runtime.startswith("/") else f"/tmp/svcmesh-{os.geteuid()}"  # noqa: S108 - see above


def remove_exactly(directory: str, name: str, inode: int, mtime_ns: int | None = None) -> bool:
    """Remove ``name`` only if it is the file with this inode (and time stamp); return whether it was.

    Raises:
        OSError: anything but a file that is gone already.
    """
    aside = take_aside(directory, name, inode, mtime_ns)
    if aside is None:
        return False
    aside.unlink()
    return True


def take_aside(directory: str, name: str, inode: int, mtime_ns: int | None = None) -> Path | None:
    """Rename ``name`` to one that stands for nothing, only if it is the file with this inode (and time stamp).

    Looking first and renaming then would lose a registration that came in between. So the file is taken aside, looked
    at, and put back if it is another, unless a still newer one has taken its place.

    Returns:
        Where it is now, or None if it was another or is gone.

    Raises:
        OSError: anything but a file that is gone already.
    """
    aside = Path(f"{directory}/{temporary_name()}-gone")
    try:
        Path(f"{directory}/{name}").rename(aside)
    except FileNotFoundError:
        return None
    found = aside.lstat()
    if found.st_ino == inode and mtime_ns in {None, found.st_mtime_ns}:
        return aside
    with suppress(FileExistsError):
        os.link(aside, f"{directory}/{name}", follow_symlinks=False)
    aside.unlink()
    return None


def remove_if_empty(directory: str) -> None:
    """Remove a directory that holds nothing; a writer that meets this finds it gone and makes it again."""
    with suppress(OSError):
        Path(directory).rmdir()
