"""Processes that a test's children have left behind: nobody's children any more, in a session of their own, say.

The system does not list them under this process. What they still have is the environment that they were started with,
so a mark in it tells them from everybody else's.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "LEAK_CHECK_MARK"


def mark() -> None:
    """Mark all processes that are started by this one and its children from now on."""
    os.environ[MARK] = f"{os.getpid()}-{secrets.token_hex(8)}"


def processes() -> frozenset[int]:
    """Return all processes of the machine; none where the system does not list them in /proc."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib's is slower
    except OSError:
        return frozenset()
    return frozenset(int(name) for name in names if name.isdigit())


def orphans(among: Iterable[int]) -> Iterator[int]:
    """Yield those of some processes that carry the mark and have no ancestor in this process."""
    wanted = f"{MARK}={os.environ.get(MARK)}".encode()
    for process in among:
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes()
        except OSError:
            continue  # ended, or another user's
        if wanted in environment.split(b"\0") and not _is_below_this(process):
            yield process


def _is_below_this(process: int) -> bool:
    """Whether it is a child of a child: that one is looked at itself, and may serve other tests."""
    while process > 1:
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False  # ended meanwhile
        if process == os.getpid():
            return True
    return False
