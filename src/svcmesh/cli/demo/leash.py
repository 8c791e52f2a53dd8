"""Runs a program that would outlive the demo: ``python -m svcmesh.cli.demo.leash HOME COMMAND…``.

Its life hangs on its standard input, as that of the demo's servers does. A byte there means that the demo ends the
program; when it closes without one the demo is gone, however it went, and the demo's directory goes, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from threading import Thread


def main(home: str, *command: str) -> None:
    """Run ``command`` until it ends, or until standard input says so; then it is killed.

    Args:
        home: what to remove when the demo is gone.
    """
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - whoever plays the demo named it
    told: list[bytes] = []

    def end_when_told() -> None:
        told.append(os.read(sys.stdin.fileno(), 1))
        program.kill()

    Thread(target=end_when_told, daemon=True).start()
    status = program.wait()
    if told == [b""]:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if told else max(1, status))


if __name__ == "__main__":
    main(*sys.argv[1:])
