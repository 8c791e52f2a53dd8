"""What of TLS is gRPC's alone; `test_tls` has what all clients share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import svcmesh
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


class Tokens(grpc.AuthMetadataPlugin):
    """A source of tokens that has none as long as it is ``dry``."""

    dry = True

    def __call__(self, context: Any, callback: Any) -> None:
        if self.dry:
            callback((), OSError("no token today"))
        else:
            callback((("x-token", "abc"),), None)


def blocking(service: svcmesh.Service, credentials: grpc.ChannelCredentials, count: int) -> list[Any]:
    """Return the errors of so many calls, none where one succeeds."""
    with service.grpc_channel(credentials) as channel:
        unary = pb_grpc.ProbeStub(channel).Unary
        return [unary.future(ping()).exception() for _ in range(count)]


def awaiting(service: svcmesh.Service, credentials: grpc.ChannelCredentials, count: int) -> list[Any]:
    """Return the same of asyncio."""

    async def calls() -> list[Any]:
        async with service.grpc_aio_channel(credentials) as channel:
            unary = pb_grpc.ProbeStub(channel).Unary
            answers = [await asyncio.gather(unary(ping()), return_exceptions=True) for _ in range(count)]
            return [answer if isinstance(answer, BaseException) else None for (answer,) in answers]

    return asyncio.run(calls())


@pytest.mark.allow_leaks("gRPC asks plugins on a thread of its core's own, which Python lists for ever")
@pytest.mark.parametrize("call", [blocking, awaiting])
def test_a_token_that_cannot_be_had_is_no_endpoints_fault(
    pki: Pki, call: Callable[[svcmesh.Service, grpc.ChannelCredentials, int], list[Any]]
) -> None:
    """Neither ejection nor breaker outlasts the source of tokens: nobody was asked. Callers see gRPC's own error."""
    tokens = Tokens()
    credentials = grpc.composite_channel_credentials(pki.credentials(), grpc.metadata_call_credentials(tokens))
    with pki.grpc_server(pki.pair("probe")) as server, service_over([server.address]) as service:
        errors = call(service, credentials, 30)
        tokens.dry = False
        assert call(service, credentials, 1) == [None]
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    assert {error.details() for error in errors} == {"Getting metadata from plugin failed with error: no token today"}
