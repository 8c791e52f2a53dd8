"""Where endpoints come from, and where a process announces itself: a file or a folder per backend.

For users: `poll` makes a backend of a function, `first` and `union` make one of several.
"""

from __future__ import annotations

from svcmesh.discovery.base import Discovery
from svcmesh.discovery.combined import first, union
from svcmesh.discovery.poll import poll

__all__ = ["Discovery", "first", "poll", "union"]
