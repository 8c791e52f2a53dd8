"""TLS with a private authority: the service's name is verified although an address is dialled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme

from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc_kit import ping, service_over


class Pki:
    """An authority, a server that it vouches for under the name ``probe``, and what clients need."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.roots = self.authority.cert_pem.bytes()

    def server(self, name: str, *more: str) -> GrpcServer:
        certificate = self.authority.issue_cert(name)
        key, chain = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        certificate.private_key_pem.write_to_path(key)
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(chain, append=number > 0)
        return GrpcServer(name, arguments=["--key", str(key), "--cert", str(chain), *more])

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.roots)

    def own_credentials(self) -> grpc.ChannelCredentials:
        mine = self.authority.issue_cert("client")
        return grpc.ssl_channel_credentials(
            self.roots, mine.private_key_pem.bytes(), b"".join(blob.bytes() for blob in mine.cert_chain_pems)
        )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def secure(pki: Pki) -> Iterator[GrpcServer]:
    with pki.server("probe") as server:
        yield server


def test_the_name_of_the_service_is_verified(pki: Pki, secure: GrpcServer) -> None:
    """The certificate is for ``probe``, and so is the service; the address has no part in it."""
    with service_over([secure.address]) as service, service.grpc_channel(pki.credentials()) as channel:
        assert pb_grpc.ProbeStub(channel).Unary(ping("sealed")).text == "sealed"


async def test_the_name_of_the_service_is_verified_on_asyncio(pki: Pki, secure: GrpcServer) -> None:
    """The same for the asyncio channel."""
    with service_over([secure.address]) as service:
        async with service.grpc_aio_channel(pki.credentials()) as channel:
            assert (await pb_grpc.ProbeStub(channel).Unary(ping("sealed"))).text == "sealed"


def test_a_certificate_for_another_name_is_refused_and_a_configured_name_accepted(pki: Pki) -> None:
    """A wrong name is UNAVAILABLE, surely unsent; saying which name to expect mends it."""
    with pki.server("other") as server, service_over([server.address]) as service:
        with service.grpc_channel(pki.credentials()) as channel, pytest.raises(grpc.RpcError) as caught:
            pb_grpc.ProbeStub(channel).Unary(ping())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        options = [("grpc.ssl_target_name_override", "other")]
        with service.grpc_channel(pki.credentials(), options) as channel:
            assert pb_grpc.ProbeStub(channel).Unary(ping()).server == "other"


def test_a_strangers_certificate_is_refused(secure: GrpcServer, tmp_path: Path) -> None:
    """Signed by an authority that the client does not trust."""
    stranger = Pki(tmp_path)
    with service_over([secure.address]) as service, service.grpc_channel(stranger.credentials()) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            pb_grpc.ProbeStub(channel).Unary(ping(), timeout=3)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_server_that_asks_for_a_certificate_gets_ours(pki: Pki, tmp_path: Path) -> None:
    """Mutual TLS: without one the call fails."""
    ca = tmp_path / "ca.pem"
    pki.authority.cert_pem.write_to_path(ca)
    with pki.server("probe", "--client-ca", str(ca)) as server, service_over([server.address]) as service:
        with service.grpc_channel(pki.own_credentials()) as channel:
            assert pb_grpc.ProbeStub(channel).Unary(ping()).server == "probe"
        with service.grpc_channel(pki.credentials()) as channel, pytest.raises(grpc.RpcError):
            pb_grpc.ProbeStub(channel).Unary(ping(), timeout=3)


def test_credentials_are_in_no_repr(pki: Pki, secure: GrpcServer) -> None:
    """Neither channels nor services show what they were given."""
    with service_over([secure.address]) as service, service.grpc_channel(pki.own_credentials()) as channel:
        for shown in (repr(channel), repr(service)):
            assert "PRIVATE KEY" not in shown
