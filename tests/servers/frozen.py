"""Freezing a process, so that it is frozen when the call returns: a signal alone is only on its way."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any


def freeze(process: subprocess.Popen[Any]) -> None:
    """Stop a child from running (SIGSTOP), and wait until all of its threads have stopped."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
