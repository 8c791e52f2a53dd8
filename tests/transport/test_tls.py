"""TLS as all four clients see it: whom they accept, who accepts them, and what they say when it fails.

Errors are those of the stock clients. They come quickly, name TLS's reason, count as surely unsent where the handshake
failed, and know which endpoints were tried.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

import svcmesh
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.servers.ports import HeldPort
from tests.transport.grpc.kit import eventually, in_flight, ping
from tests.transport.pki import Pair, Pki

Server = GrpcServer | HttpServer
KINDS = ("grpc", "http")


@dataclass(frozen=True)
class Trust:
    """What a client brings: an authority, a certificate of its own, and names that it insists on."""

    pki: Pki
    pair: Pair | None = None
    plain: bool = False
    name: str | None = None


def by_grpc(service: svcmesh.Service, trust: Trust) -> str:
    """Call on the blocking channel; return the server's name."""
    with service.grpc_channel(*_grpc_arguments(trust)) as channel:
        return str(pb_grpc.ProbeStub(channel).Unary(ping()).server)


def by_grpc_aio(service: svcmesh.Service, trust: Trust) -> str:
    """Call on the asyncio channel."""

    async def call() -> str:
        async with service.grpc_aio_channel(*_grpc_arguments(trust)) as channel:
            return str((await pb_grpc.ProbeStub(channel).Unary(ping())).server)

    return asyncio.run(call())


def by_httpx(service: svcmesh.Service, trust: Trust) -> str:
    """POST with the blocking client, so that only what was surely not sent is repeated."""
    with service.http_client(**_http_arguments(trust)) as client:
        return str(client.post("/echo", extensions=_sni(trust)).json()["server"])


def by_httpx_async(service: svcmesh.Service, trust: Trust) -> str:
    """POST with the asyncio client."""

    async def call() -> str:
        async with service.http_async_client(**_http_arguments(trust)) as client:
            return str((await client.post("/echo", extensions=_sni(trust))).json()["server"])

    return asyncio.run(call())


def _grpc_arguments(trust: Trust) -> tuple[Any, Any]:
    options = None if trust.name is None else [("grpc.default_authority", trust.name)]
    return (None if trust.plain else trust.pki.credentials(trust.pair)), options


def _http_arguments(trust: Trust) -> dict[str, Any]:
    if trust.plain:
        return {}
    return {"base_url": "https://probe", "verify": trust.pki.context(trust.pair)}


def _sni(trust: Trust) -> dict[str, Any]:
    return {} if trust.name is None else {"sni_hostname": trust.name}


CLIENTS: dict[str, Callable[[svcmesh.Service, Trust], str]] = {
    "grpc": by_grpc,
    "grpc.aio": by_grpc_aio,
    "httpx": by_httpx,
    "httpx async": by_httpx_async,
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("stranger"))


class Servers:
    """Servers of both kinds, by what is right or wrong with them; started at once, since each takes its time."""

    def __init__(self, pki: Pki, stranger: Pki) -> None:
        self._pki, self._stranger = pki, stranger
        wanted = [(what, kind) for what in ("good", "other", "expired", "unknown", "mutual", "plain") for kind in KINDS]
        with ThreadPoolExecutor() as pool:
            self._running = dict(zip(wanted, pool.map(self._new, *zip(*wanted, strict=True)), strict=True))

    def get(self, what: str, client: str) -> Server:
        return self._running[what, "grpc" if client.startswith("grpc") else "http"]

    def _new(self, what: str, kind: str) -> Server:
        if what == "plain":
            return GrpcServer("plain") if kind == "grpc" else HttpServer("plain")
        pki = self._stranger if what == "unknown" else self._pki
        name = "other" if what == "other" else "probe"
        pair = pki.pair(name, file=f"{what}-{kind}", expired=what == "expired")
        clients = self._pki.ca if what == "mutual" else None
        return pki.grpc_server(pair, clients=clients) if kind == "grpc" else pki.http_server(pair, clients=clients)

    def close(self) -> None:
        for server in self._running.values():
            server.close()


@pytest.fixture(scope="module")
def servers(pki: Pki, stranger: Pki) -> Iterator[Servers]:
    found = Servers(pki, stranger)
    yield found
    found.close()


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(client: str, server: Server, trust: Trust) -> str:
    """Make a call with this client; nothing may be in flight when it is over."""
    with svcmesh.Mesh({"probe": [server.address]}) as mesh:
        service = mesh.service("probe")
        try:
            return CLIENTS[client](service, trust)
        finally:
            eventually(lambda: in_flight(service) == 0, "the call is still counted as in flight")


def failure(client: str, server: Server, trust: Trust, *, late: bool = False) -> Any:
    """Return the error of a call that must not succeed, and hang until its time is over only where it says so."""
    with pytest.raises((grpc.RpcError, httpx.TransportError)) as caught:
        call(client, server, trust)
    error: Any = caught.value
    by_time = {grpc.StatusCode.DEADLINE_EXCEEDED}
    if late:
        by_time.add(grpc.StatusCode.UNAVAILABLE)  # gRPC's time for a connect is first, where a machine lets both pass
    ended_by_time = isinstance(error, grpc.RpcError) and error.code() in by_time
    assert (ended_by_time or isinstance(error, httpx.TimeoutException)) is late
    told = svcmesh.info(caught.value)
    assert told is not None
    assert {endpoint.address for endpoint in told.endpoints} == {server.address}
    return caught.value


def words_of(error: Any) -> str:
    """Return what an error says."""
    return str(error.details() if isinstance(error, grpc.RpcError) else error)  # type: ignore[attr-defined]


def test_the_services_name_is_verified_although_an_address_is_dialled(client: str, pki: Pki, servers: Servers) -> None:
    """It is authority and server name."""
    assert call(client, servers.get("good", client), Trust(pki)).startswith("good")


def test_another_name_may_be_configured(client: str, pki: Pki, servers: Servers) -> None:
    """By the channel's options, and by httpx's extension."""
    assert call(client, servers.get("other", client), Trust(pki, name="other")).startswith("other")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("other", ("Hostname Verification Check failed", "Hostname mismatch")),
        ("expired", ("certificate has expired",) * 2),
        ("unknown", ("unable to get local issuer certificate",) * 2),
        ("plain", ("WRONG_VERSION_NUMBER",) * 2),
    ],
)
def test_a_wrong_server_gets_nothing(
    client: str, pki: Pki, servers: Servers, what: str, words: tuple[str, str]
) -> None:
    """A certificate for another name, of yesterday, of somebody else, and none at all: surely unsent, and why."""
    server = servers.get(what, client)
    error = failure(client, server, Trust(pki))
    told = svcmesh.info(error)
    assert told is not None
    assert told.reason.startswith("connect-failure")
    assert words[client.startswith("httpx")] in words_of(error)
    if client.startswith("grpc"):
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert server.address in words_of(error)
    else:
        assert isinstance(error, httpx.ConnectError)
        assert error.request.url.host == "probe"


def test_a_plain_text_client_of_a_tls_server_fails_at_once(client: str, pki: Pki, servers: Servers) -> None:
    """A gRPC connection never comes up, so that nothing was sent; over HTTP the request itself was."""
    error = failure(client, servers.get("good", client), Trust(pki, plain=True))
    told = svcmesh.info(error)
    assert told is not None
    if client.startswith("grpc"):
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert told.reason.startswith("connect-failure")
    else:
        assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
        assert told.reason.startswith("reset")


def test_mutual_tls(client: str, pki: Pki, servers: Servers) -> None:
    """The server asks, and the client shows."""
    assert call(client, servers.get("mutual", client), Trust(pki, pki.pair("client"))).startswith("mutual")


@pytest.mark.parametrize("what", ["none", "strange", "expired"])
def test_a_client_without_the_right_certificate_is_not_let_in(
    client: str, pki: Pki, stranger: Pki, servers: Servers, what: str
) -> None:
    """Although it has shaken hands, under TLS 1.3, before the server looks. asyncio's servers do not say why."""
    own = {"none": None, "strange": stranger.pair("client"), "expired": pki.pair("client", expired=True)}[what]
    error = failure(client, servers.get("mutual", client), Trust(pki, own))
    if client.startswith("grpc"):
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    else:
        assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)


def test_a_new_certificate_of_a_server_is_verified_anew(client: str, pki: Pki, stranger: Pki, tmp_path: Path) -> None:
    """One that comes back with another certificate of the same authority is the same; with a stranger's it is not."""
    mine = Pki(tmp_path)
    kind = "grpc_server" if client.startswith("grpc") else "http_server"
    with HeldPort() as port:
        with getattr(mine, kind)(mine.pair("probe", file="one"), port=port.number) as first:
            trust = Trust(mine)
            assert call(client, first, trust) == "one"
        with getattr(mine, kind)(mine.pair("probe", file="two"), port=port.number) as second:
            assert call(client, second, trust) == "two"
        with getattr(stranger, kind)(stranger.pair("probe", file="three"), port=port.number) as third:
            failure(client, third, trust)


def test_a_server_that_never_shakes_hands_is_given_up(client: str, pki: Pki) -> None:
    """Frozen after it has accepted: the deadline ends it."""
    with (GrpcServer if client.startswith("grpc") else HttpServer)("frozen") as server:
        server.freeze()
        with svcmesh.deadline(1.0):
            failure(client, server, Trust(pki), late=True)
        server.thaw()


def test_credentials_are_in_no_error(client: str, pki: Pki, stranger: Pki, servers: Servers) -> None:
    """Neither in its words, nor in what it refers to."""
    error = failure(client, servers.get("mutual", client), Trust(pki, stranger.pair("client")))
    assert "PRIVATE KEY" not in f"{error!r} {error} {svcmesh.info(error)!r}"


def test_contexts_need_not_be_ours(pki: Pki, servers: Servers) -> None:
    """A certificate that is loaded into a live context is shown on the next connection, as with the stock transport."""
    context = ssl.create_default_context(cafile=pki.ca)
    server = servers.get("mutual", "httpx")
    with (
        svcmesh.Mesh({"probe": [server.address]}) as mesh,
        mesh.service("probe").http_client(base_url="https://probe", verify=context) as client,
    ):
        with pytest.raises(httpx.TransportError):
            client.post("/echo")
        context.load_cert_chain(pki.pair("client").both)
        assert client.post("/echo").status_code == 200
