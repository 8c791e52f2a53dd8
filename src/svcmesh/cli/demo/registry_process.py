"""A registry of the demo's own: started in the demo's directory, killed in an act, and gone with the demo."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from svcmesh.cli.demo.fleet import LOOPBACK, last_words, launched
from svcmesh.cli.demo.registry import CONSUL, Source, service_names


class RegistryProcess:
    """A Consul or an etcd on free ports, with its data in the demo's directory. It runs until the end of the block.

    Args:
        source: says which, and the program. home: directory of the demo.
    """

    def __init__(self, source: Source, home: Path) -> None:
        self._source = source
        self._home = home
        self._held = [_held_port() for _ in range(3)]
        self._ports = [int(held.getsockname()[1]) for held in self._held]
        if sys.platform != "linux":
            self._let_go()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"{source.kind}://{LOOPBACK}:{self._ports[0]}/{service_names()}"
        """Where servers and callers find it."""

    def start(self) -> None:
        """Start it (again), at the same address, with the data that are left of it."""
        leash = [sys.executable, "-m", "svcmesh.cli.demo.leash", str(self._home)]
        self._process = launched([*leash, *self._command()], self._log)

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone; harmless when it is not there."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(BrokenPipeError):  # it ended by itself
                process.stdin.write(b"x")
                process.stdin.close()
            process.wait()

    def failed(self) -> str | None:
        """Return what it left behind if it ended by itself."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"{self._source.program} ended with status {self._process.returncode}: {last_words(self._log)}"

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and give its ports up."""
        self.kill()
        self._let_go()

    def _let_go(self) -> None:
        for held in self._held:
            held.close()

    @property
    def _log(self) -> Path:
        return self._home / f"{self._source.kind}.log"

    def _command(self) -> list[str]:
        first, second, third = self._ports
        if self._source.kind == CONSUL:
            agent = (self._source.program, "agent")
            known = subprocess.run((*agent, "-help"), capture_output=True, text=True, check=False).stdout  # noqa: S603
            return [
                *(*agent, "-dev", f"-bind={LOOPBACK}", f"-client={LOOPBACK}", "-log-level=error"),
                *(f"-http-port={first}", f"-server-port={second}", f"-serf-lan-port={third}"),
                *("-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"),
                *(("-grpc-tls-port=-1",) if "-grpc-tls-port" in known else ()),  # Consul 1.14 and later
            ]
        clients, members = f"http://{LOOPBACK}:{first}", f"http://{LOOPBACK}:{second}"
        return [
            *(self._source.program, "--name", "demo", "--data-dir", str(self._home / "etcd"), "--log-level", "error"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", members, "--initial-advertise-peer-urls", members),
            *("--initial-cluster", f"demo={members}"),
        ]


def _held_port() -> socket.socket:
    """Return a socket whose port nobody else is given, be the registry up or down.

    It is bound and does not listen, so connections are refused while the registry is down. Both say SO_REUSEADDR, and
    Linux lets the registry in; elsewhere the port is one that was free a moment ago.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held
