"""The test server of `http_server` as a process that a test can kill, freeze and bring back on the same port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "src")])


class HttpServer:
    """One server process.

    Attributes:
        name: what its answers carry in ``x-server``. address: where it listens, as an endpoint's address. Of port 0 it
            has one that stays its own until it is closed.
    """

    def __init__(
        self,
        name: str = "server",
        *,
        listen: str = "127.0.0.1:0",
        arguments: Sequence[str] = (),
        module: str = "tests.servers.http_server",
    ) -> None:
        self.name = name
        self._module = module
        host, _, port = listen.rpartition(":")
        self._held = HeldPort(host.strip("[]")) if port == "0" else None
        self._listen = listen if self._held is None else self._held.address
        self._arguments = tuple(arguments)
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._listen

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._listen.rpartition(":")[2])

    def start(self) -> None:
        """Start the process (again), on the port it had."""
        command = [sys.executable, "-m", self._module, "--name", self.name]
        command += ["--listen", self._listen, *self._arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": PATHS}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise ChildProcessError(f"server {self.name} ended before it listened, with {self.process.returncode}")
        if not self._listen.startswith("unix:"):
            self._take(json.loads(line)["port"])

    def _take(self, port: int) -> None:
        """Go by the port that the server says: some choose one themselves."""
        if port != self.port:
            assert self._held is not None, f"{self._listen} was wanted, and {port} is what it listens on"
            self._held.close()
            self._held, self._listen = None, f"{self._listen.rpartition(':')[0]}:{port}"

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """End it, and give its port up; harmless when it has ended."""
        self.kill()
        if self._held is not None:
            self._held.close()

    def freeze(self) -> None:
        """Stop it from running, without closing its connections (SIGSTOP)."""
        freeze(self.process)

    def thaw(self) -> None:
        """Let it run on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def stats(self) -> dict[str, Any]:
        """Return what it has seen, this question's own connection included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/stats")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return found

    def count(self, path: str) -> int:
        """Return how many requests for ``path`` it got."""
        return int(self.stats()["paths"].get(path, 0))

    def __enter__(self) -> Self:
        """Return self; the process is ended on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()
