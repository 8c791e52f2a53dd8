"""What of TLS is gRPC's alone; `test_tls` has what all clients share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import ping, service_over
from tests.transport.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other(pki: Pki) -> Iterator[GrpcServer]:
    with pki.grpc_server(pki.pair("other")) as server:
        yield server


@pytest.mark.parametrize("option", ["grpc.default_authority", "grpc.ssl_target_name_override"])
def test_either_option_says_which_name_to_expect(pki: Pki, other: GrpcServer, option: str) -> None:
    """The service is called ``probe``, its servers ``other``."""
    with (
        service_over([other.address]) as service,
        service.grpc_channel(pki.credentials(), [(option, "other")]) as channel,
    ):
        assert pb_grpc.ProbeStub(channel).Unary(ping()).server == "other"


def test_credentials_are_in_no_repr(pki: Pki, other: GrpcServer) -> None:
    """Neither channels nor services show what they were given."""
    credentials = pki.credentials(pki.pair("client"))
    with service_over([other.address]) as service, service.grpc_channel(credentials) as channel:
        for shown in (repr(channel), repr(service)):
            assert "PRIVATE KEY" not in shown
