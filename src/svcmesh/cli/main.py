"""The parser of the command, and nothing that a subcommand needs: `svcmesh --help` loads no gRPC."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from svcmesh.cli.demo import command as demo
from svcmesh.cli.endpoints import command as endpoints

DESCRIPTION = "svcmesh: what a service mesh gives a cluster, inside the process."
EPILOG = "'svcmesh COMMAND --help' explains a command and its options, all of which have defaults."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status.

    Args:
        arguments: what stands behind the name of the program; default: those of this process.
    """
    _open_closed_streams()
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `svcmesh demo | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's end flushes, and fails
        return 128 + signal.SIGPIPE  # as of any program in a pipe; 1 and 2 mean something to the commands
    except KeyboardInterrupt:  # where a command has nothing to clean up, yet or any more
        return 130
    except Exception:  # noqa: BLE001 - told in full; Python's own status for it is 1, which means something to commands
        traceback.print_exc()
        return os.EX_SOFTWARE
    return status


def _open_closed_streams() -> None:
    """Let what was closed (``svcmesh demo >&-``) lead nowhere: else files get its number, and Python has no stream."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def parser() -> argparse.ArgumentParser:
    """Return the parser, with all subcommands."""
    found = argparse.ArgumentParser(prog="svcmesh", description=DESCRIPTION, epilog=EPILOG)
    found.add_argument("--version", action="version", version=f"svcmesh {_version()}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_to(commands)
    endpoints.add_to(commands)
    return found


def _version() -> str:
    try:
        return version("svcmesh")
    except PackageNotFoundError:  # run from a source tree
        return "(not installed)"
