"""The test server of `grpc_server` as a process that a test can kill, freeze and bring back on the same port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "src")])


class GrpcServer:
    """One server process.

    Attributes:
        name: what its answers carry in ``Pong.server``. port: where it listens, on the loopback; by default one that
            stays its own until it is closed.
    """

    def __init__(self, name: str = "server", *, port: int = 0, arguments: Sequence[str] = ()) -> None:
        self.name = name
        self._held = None if port else HeldPort()
        self.port = port if self._held is None else self._held.number
        self._arguments = tuple(arguments)
        self.start()

    @property
    def address(self) -> str:
        """Where it listens, as an endpoint's address."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process (again), on the port it had."""
        command = [sys.executable, "-m", "tests.servers.grpc_server", "--name", self.name]
        command += ["--listen", f"127.0.0.1:{self.port}", *self._arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": PATHS}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise ChildProcessError(f"server {self.name} ended before it listened, with {self.process.returncode}")
        assert json.loads(line)["port"] == self.port

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from running, without closing its connections (SIGSTOP)."""
        freeze(self.process)

    def thaw(self) -> None:
        """Let it run on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def stats(self, credentials: grpc.ChannelCredentials | None = None) -> dict[str, Any]:
        """Return ``counts`` of calls by method, ``connections`` that they came on, and ``metadata`` of the last one.

        Asked for on a channel of its own, which does not count.
        """
        options = [("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.insecure_channel(self.address, options)
            if credentials is None
            else grpc.secure_channel(self.address, credentials, options)
        ) as channel:
            answer = pb_grpc.ProbeStub(channel).Unary(pb.Ping(text="?stats"), timeout=30)  # type: ignore[no-untyped-call]
        found: dict[str, Any] = json.loads(answer.text)
        return found

    def count(self, what: str) -> int:
        """Return one of the counts, 0 when it never happened."""
        return int(self.stats()["counts"].get(what, 0))

    def close(self) -> None:
        """End it, and give its port up; harmless when it has ended."""
        self._end(signal.SIGKILL)
        if self._held is not None:
            self._held.close()

    def __enter__(self) -> Self:
        """Return self; the process is ended on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def _end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def refused_port() -> Iterator[int]:
    """Yield a port of the loopback that refuses connections: bound, so that nobody gets it, but not listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def blackhole_port() -> Iterator[int]:
    """Yield a port where connecting gets no answer at all: its backlog is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()
