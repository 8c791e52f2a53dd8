"""The control plane of `server` as a process that a test can kill, freeze and bring back on the same port."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.consul_agent import until
from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort
from tests.servers.xds import resources

ROOT = Path(__file__).resolve().parents[3]
Resources = Mapping[str, Mapping[str, bytes]]


class ControlPlane:
    """One process.

    Attributes:
        requests: all that it has heard, in order. streams: how many clients there are.
    """

    def __init__(self, tls: Sequence[str] = ()) -> None:
        self._held = HeldPort()
        self.requests: list[dict[str, Any]] = []
        self.streams = 0
        self._tls = tls
        self._served: dict[str, dict[str, bytes]] = {}
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._held.address

    @property
    def port(self) -> int:
        """Its port, which stays its own until the end of its block."""
        return self._held.number

    def start(self) -> None:
        """Start it (again), on the port it had, with what it served."""
        command = [sys.executable, "-m", "tests.servers.xds.server", "--listen", self.address]
        command += ["--tls", *self._tls] if self._tls else []
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the control plane ended before it listened, with status {self.process.wait()}"
        self._listening = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._listening.start()
        if self._served:
            self.serve(self._served)

    def put(self, service: str, addresses: Sequence[str]) -> None:
        """Serve a service with these addresses, from its listener to its endpoints; none: take it away."""
        served = resources.service(service, addresses)
        if addresses:
            self.serve(served)
        else:
            self.remove({kind: list(named) for kind, named in served.items()})

    def serve(self, served: Resources) -> None:
        """Serve resources, by kind and name, beside those that are there."""
        for kind, named in served.items():
            self._served.setdefault(kind, {}).update(named)
        self.tell(set={kind: {name: _text(one) for name, one in named.items()} for kind, named in served.items()})

    def remove(self, names: Mapping[str, Sequence[str]]) -> None:
        """Serve them no more."""
        for kind, listed in names.items():
            for name in listed:
                self._served.get(kind, {}).pop(name, None)
        self.tell(remove=names)

    def clear(self) -> None:
        """Serve nothing, to nobody who is there, and forget what was heard."""
        self.remove({kind: list(named) for kind, named in self._served.items()})
        self.tell(mute=False, status=None, close=True)
        until(lambda: self.streams == 0)
        self.requests.clear()

    def send(self, content: bytes) -> None:
        """Send bytes to all clients."""
        self.tell(raw=_text(content))

    def tell(self, **told: Any) -> None:
        """Tell it what to do; see `server`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Return the requests for one kind of resources."""
        return [request for request in self.requests if request["kind"] == kind]

    def refusals(self) -> list[str]:
        """Return the reasons of all clients that refused something."""
        return [request["refused"] for request in self.requests if request["refused"]]

    def kill(self) -> None:
        """End it at once, with SIGKILL; harmless when repeated."""
        self.process.kill()
        self.process.wait()
        self._listening.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def freeze(self) -> None:
        """Stop it from running, without closing its connections."""
        freeze(self.process)

    def thaw(self) -> None:
        """Let it run on."""
        self.process.send_signal(signal.SIGCONT)

    def bootstrap(self, file: Path, **more: Any) -> Path:
        """Write a bootstrap file of gRPC that leads here, and return it; ``more`` are fields of it."""
        server = {"server_uri": self.address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
        node = {"id": "test-node", "cluster": "tests", "locality": {"zone": "eu-1"}, "metadata": {"team": "mesh"}}
        file.write_text(json.dumps({"xds_servers": [server], "node": node, **more}))
        return file

    def __enter__(self) -> Self:
        """Return self; the process is ended on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and give its port up."""
        self.kill()
        self._held.close()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "request" in told:
                self.requests.append(told["request"])
            self.streams = told.get("streams", self.streams)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
