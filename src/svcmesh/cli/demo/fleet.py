"""The server processes, as their parent holds them: started, disturbed by signals, and all gone at the end.

Each has a process group of its own, in the session of the demo. So Ctrl-C reaches the demo alone, which then ends them
in order; and when the demo itself is killed, the kernel finds the group of a frozen server orphaned and ends it
(SIGHUP, SIGCONT), while all others see their standard input close (`server`).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

Command = Callable[[str], list[str]]

LOOPBACK = "127.0.0.1"

LEAVING = 5.0
"""Seconds that servers get to leave by themselves, those included that drain."""

_TOLD = 2000  # characters of a log that are shown


class Fleet:
    """The servers by name. On leaving its block all are ended: by SIGTERM after a good run, else by SIGKILL.

    Args:
        home: directory of the demo; the servers' logs are in it.
        command: what to run for a name; see `server_command`.
    """

    def __init__(self, home: Path, command: Command) -> None:
        self._home = home
        self._command = command
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start the server called ``name``, which is ``<service>-<number>``."""
        self._processes[name] = launched(self._command(name), self._log(name))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal; one that kills is followed until the process is gone."""
        process = self._processes[name]
        process.send_signal(number)
        if number is signal.SIGKILL:
            process.wait()

    def failed(self) -> str | None:
        """Return what a server that ended by itself left behind, or None while all run or were killed."""
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None and status != -signal.SIGKILL:
                return f"server {name} ended with status {status}: {last_words(self._log(name))}"
        return None

    def close(self, *, gently: bool) -> None:
        """End all servers, and wait for them."""
        processes = self._processes.values()
        if gently:
            _send(processes, signal.SIGCONT, signal.SIGTERM)
            _wait(processes, time.monotonic() + LEAVING)
        _send(processes, signal.SIGKILL)
        for process in processes:
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def __enter__(self) -> Self:
        """Return the fleet, with no server yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all servers."""
        self.close(gently=error is None)

    def _log(self, name: str) -> Path:
        return self._home / f"{name}.log"


def server_command(registry: str, home: Path) -> Command:
    """Return what runs the demo's own servers: they register at the discovery URI ``registry``."""

    def command(name: str) -> list[str]:
        service = name.rpartition("-")[0]
        return [sys.executable, "-m", "svcmesh.cli.demo.server", service, name, registry, str(home)]

    return command


def launched(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, with a pipe for its standard input; its errors go to ``log``."""
    with log.open("wb") as said:
        return subprocess.Popen(  # noqa: S603 - our own programs, and a registry that whoever plays the demo has named
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, process_group=0
        )


def last_words(log: Path) -> str:
    """Return what a process that has ended had to say."""
    return log.read_text(errors="replace").strip()[-_TOLD:] or "it said nothing"


def _send(processes: Iterable[subprocess.Popen[bytes]], *signals: signal.Signals) -> None:
    for process in processes:
        for number in signals:
            process.send_signal(number)  # does nothing once the process has been waited for


def _wait(processes: Iterable[subprocess.Popen[bytes]], until: float) -> None:
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return  # SIGKILL follows
