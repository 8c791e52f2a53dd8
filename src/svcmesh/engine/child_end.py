"""The end of a child of `multiprocessing`: it leaves by ``os._exit``, which runs nothing that atexit was told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_arranged: set[tuple[int, Callable[[], object]]] = set()

_BEFORE_OTHERS = 10
"""Priority among multiprocessing's finalizers: before those of its queues and managers (0 and below)."""


def at_child_end(close: Callable[[], object]) -> None:
    """Have ``close`` called when this process ends, if it is a child of multiprocessing; once, however often asked.

    It has to be asked in the child: what its parent has arranged is forgotten where a child begins. Loads nothing: a
    process in which multiprocessing is not loaded is no child of it.

    Source: multiprocessing.process.BaseProcess._bootstrap, which calls util._exit_function.
    """
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None:
        return
    once = os.getpid(), close
    if once not in _arranged:
        _arranged.add(once)
        util.Finalize(None, close, exitpriority=_BEFORE_OTHERS)
