"""A Consul for tests: the fake in a thread or in a process of its own, or a real agent where there is one.

All of them are spoken to by HTTP alone, so that what a test says of one it says of all.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import dns.message
import dns.query
import pytest

from svcmesh.testing import FakeConsul
from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort

NO_CONSUL = "no Consul: set SVCMESH_TEST_CONSUL to its path, or put it into PATH"
"""Why a test or a measurement leaves the real one out."""

ROOT = Path(__file__).resolve().parents[2]


def real_consul() -> str | None:
    """Return the path of a Consul binary: SVCMESH_TEST_CONSUL, else what PATH has."""
    return os.environ.get("SVCMESH_TEST_CONSUL") or shutil.which("consul")


def fake_consul(directory: Path) -> Path:
    """Write a program that is started as a real agent is, with its flags, and serves the fake."""
    program = directory / "consul"
    program.write_text(
        f"#!{sys.executable}\n"
        "import signal, sys\n"
        "if '-help' in sys.argv:\n"
        "    sys.exit()\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from svcmesh.testing import FakeConsul\n"
        "flags = dict(flag.split('=') for flag in sys.argv if '=' in flag)\n"
        "with FakeConsul(flags['-client'], int(flags['-http-port'])):\n"
        "    signal.pause()\n"
    )
    program.chmod(0o755)
    return program


class Api:
    """Requests of Consul's HTTP interface, past everything that is tested."""

    def __init__(self, address: str, dns_address: str = "") -> None:
        self.address = address
        self.dns_address = dns_address
        self.token = ""

    def ask(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, dict[str, str], Any]:
        """Return status, headers by lower-case name, and the body, decoded where it is JSON."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            query = "?" + urlencode(params, doseq=True) if params else ""
            content = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} | ({"X-Consul-Token": self.token} if self.token else {})
            connection.request(method, path + query, content, headers)
            response = connection.getresponse()
            text = response.read().decode()
            headers = {name.lower(): value for name, value in response.getheaders()}
            is_json = "json" in headers.get("content-type", "") and text
            return response.status, headers, json.loads(text) if is_json else text
        finally:
            connection.close()

    def put(self, path: str, body: Any = None, **params: Any) -> None:
        """Do something that has to succeed."""
        status, _, text = self.ask("PUT", path, body, **params)
        assert status == 200, f"PUT {path}: {status} {text}"

    def register(self, name: str, port: int, *, status: str = "passing", **fields: Any) -> str:
        """Register an instance with a TTL check of a day; return its id."""
        check = {"TTL": "24h", "Status": status}
        body = {"Name": name, "ID": f"{name}-{port}", "Address": "127.0.0.1", "Port": port, "Check": check, **fields}
        self.put("/v1/agent/service/register", body, **{"replace-existing-checks": "true"})
        return f"{name}-{port}"

    def set_status(self, service_id: str, status: str) -> None:
        """Set the status of the check that `register` made."""
        self.put(f"/v1/agent/check/update/service:{service_id}", {"Status": status})

    def health(self, name: str, **params: Any) -> tuple[int, list[dict[str, Any]]]:
        """Return index and instances of a service."""
        status, headers, entries = self.ask("GET", f"/v1/health/service/{name}", **params)
        assert status == 200, entries
        return int(headers["x-consul-index"]), entries

    def settle(self, name: str, count: int) -> None:
        """Wait until the servers list so many instances: an agent tells them a moment later."""
        until(lambda: len(self.health(name)[1]) == count)


class ConsulProcess(Api):
    """A Consul in a process of its own, that a test can kill, freeze and bring back at the same address.

    Args:
        binary: a real agent's, or None for the fake. flags: more flags of a real agent's.
    """

    def __init__(self, binary: str | None = None, *flags: str) -> None:
        self._binary = binary
        self._flags = flags
        self._ports = [HeldPort() for _ in range(5)]
        self._port, self._dns_port = (port.number for port in self._ports[:2])
        super().__init__(*(port.address for port in self._ports[:2]))
        self.start()

    @property
    def uri(self) -> str:
        """The discovery URI that leads there."""
        return f"consul://{self.address}"

    def start(self) -> None:
        """Start it (again); it knows nothing of an earlier life."""
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        self._process = subprocess.Popen(
            self._command(),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._ready, 60.0)

    def kill(self) -> None:
        """End it at once, with SIGKILL; harmless when repeated."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def freeze(self) -> None:
        """Stop it from running, without closing its connections."""
        freeze(self._process)

    def thaw(self) -> None:
        """Let it run on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        """Return self; on the way out the process is ended and its ports are given up."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and give its ports up."""
        self.kill()
        for port in self._ports:
            port.close()

    def _command(self) -> list[str]:
        if self._binary is None:
            ports = ["--port", str(self._port), "--dns-port", str(self._dns_port)]
            return [sys.executable, "-m", "svcmesh.testing.consul", *ports]
        ports = [port.number for port in self._ports[2:]]
        known = subprocess.run((self._binary, "agent", "-help"), capture_output=True, text=True, check=False).stdout
        return [
            *(self._binary, "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=error"),
            *(f"-http-port={self._port}", f"-dns-port={self._dns_port}", f"-server-port={ports[0]}"),
            *(f"-serf-lan-port={ports[1]}", f"-serf-wan-port={ports[2]}", "-grpc-port=-1"),
            *(("-grpc-tls-port=-1",) if "-grpc-tls-port" in known else ()),  # Consul 1.14 and later
            *self._flags,
        ]

    def _ready(self) -> bool:
        assert self._process.poll() is None, f"Consul ended with status {self._process.returncode}"
        try:
            status, _, leader = self.ask("GET", "/v1/status/leader")
        except OSError:
            return False
        return status == 200 and bool(leader)


@contextmanager
def fake_or_real(which: str) -> Generator[Api]:
    """Yield a Consul to ask: the "fake", or the "real" one, without which a test is skipped. Both answer DNS."""
    if which == "fake":
        with FakeConsul(dns_port=0) as fake:
            yield Api(fake.address, fake.dns_address)
        return
    binary = real_consul()
    if binary is None:
        pytest.skip(NO_CONSUL)
    with ConsulProcess(binary) as agent:
        yield agent


def ask_dns(
    address: str, name: str, kind: str, *, edns: int | bool = False, tcp: bool = False, timeout: float = 30.0
) -> dns.message.Message:
    """Ask a name server one question; ``edns`` is how many bytes an answer by UDP may have."""
    host, _, port = address.rpartition(":")
    query = dns.message.make_query(name, kind, use_edns=bool(edns), payload=int(edns) or None)
    if tcp:
        return dns.query.tcp(query, host, port=int(port), timeout=timeout)
    return dns.query.udp(query, host, port=int(port), timeout=timeout)


def until(done: Any, seconds: float = 30.0) -> None:
    """Poll until something holds.

    Raises:
        AssertionError: it does not in time.
    """
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)
