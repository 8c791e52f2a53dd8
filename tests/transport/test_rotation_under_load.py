"""Certificates that are replaced while all four clients call without a pause: nobody notices."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.grpc import rotating_credentials
from svcmesh.http import rotating_context
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.transport.grpc.kit import eventually, ping
from tests.transport.pki import Pair, Pki

ROUNDS, CALLS = 3, 5
LIMITS = httpx.Limits(max_keepalive_connections=0)
"""A connection for each request of HTTP, so that each shows the certificate of its time."""


class Load:
    """Four clients that call until it is ``over``; what they have done, and what has failed."""

    def __init__(self, mesh: svcmesh.Mesh, pki: Pki, mine: Pair) -> None:
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self._rpc, self._web = mesh.service("rpc"), mesh.service("web")
        self._credentials: Callable[[], Any] = lambda: rotating_credentials(pki.ca, mine.key, mine.chain, every=0.02)
        self._verify: Callable[[], Any] = lambda: rotating_context(pki.ca, mine.key, mine.chain)

    def _note(self, name: str, error: Exception | None = None) -> None:
        self.done[name] += 1
        if error is not None:
            self.failed.append(f"{name}: {error!r}")

    def blocking(self, name: str, call: Callable[[], Any]) -> None:
        while not self.over.wait(0.002):
            try:
                call()
            except Exception as error:  # noqa: BLE001 - shown by the test
                self._note(name, error)
            else:
                self._note(name)

    async def awaiting(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        while not self.over.is_set():
            try:
                await call()
            except Exception as error:  # noqa: BLE001 - as above
                self._note(name, error)
            else:
                self._note(name)
            await asyncio.sleep(0.002)

    def grpc(self) -> None:
        with self._rpc.grpc_channel(self._credentials()) as channel:
            stub: Any = pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]
            self.blocking("grpc", lambda: stub.Unary(ping()))

    def http(self) -> None:
        with self._web.http_client(verify=self._verify(), base_url="https://web", limits=LIMITS) as client:
            self.blocking("http", lambda: client.post("/echo").raise_for_status())

    async def both(self) -> None:
        """The two clients of asyncio, on one loop."""
        verify = self._verify()
        async with (
            self._rpc.grpc_aio_channel(self._credentials()) as channel,
            self._web.http_async_client(verify=verify, base_url="https://web", limits=LIMITS) as client,
        ):
            stub: Any = pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]

            async def post() -> None:
                (await client.post("/echo")).raise_for_status()

            await asyncio.gather(
                self.awaiting("grpc aio", lambda: stub.Unary(ping())), self.awaiting("http async", post)
            )


@contextmanager
def running(load: Load) -> Iterator[None]:
    threads = [threading.Thread(target=run) for run in (load.grpc, load.http, lambda: asyncio.run(load.both()))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.over.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def test_no_call_fails_while_certificates_are_replaced(pki: Pki) -> None:
    """Those of gRPC and HTTP, blocking and asyncio, at once; no call is idempotent, and none is repeated."""
    mine = pki.pair("client", file="mine")
    with (
        pki.grpc_server(pki.pair("rpc"), clients=pki.ca) as rpc,
        pki.http_server(pki.pair("web"), clients=pki.ca) as web,
        svcmesh.Mesh({"rpc": [rpc.address], "web": [web.address]}, policy=Policy()) as mesh,
    ):
        reloaded: list[Any] = []
        mesh.events.subscribe(reloaded.append, "config.reloaded")
        load = Load(mesh, pki, mine)
        with running(load):
            for turn in range(ROUNDS + 1):
                before = Counter(load.done)
                eventually(
                    lambda before=before: (
                        len(load.done) == 4  # type: ignore[misc]
                        and all(load.done[name] >= before[name] + CALLS for name in load.done)
                    ),
                    f"somebody has stopped in turn {turn}",
                )
                if turn < ROUNDS:
                    seen = len(reloaded)
                    pki.pair("client", file="mine")
                    eventually(lambda seen=seen: len(reloaded) >= seen + 2, "a channel keeps the old ones")  # type: ignore[misc]
    assert load.failed == []
