"""Calls end, although an interceptor below ours has left a call object that fails when it is asked how it ended."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import grpc.aio
import pytest
import tenacity

from svcmesh import Mesh, Policy, Retry
from svcmesh.grpc import aio_client_interceptors
from svcmesh.transport.grpc.aio import flow
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, in_flight, ping, soon

Servers = tuple[GrpcServer, GrpcServer]
QUESTIONS = ("code", "details", "initial_metadata", "trailing_metadata", "debug_error_string")
JUDGING = Policy(
    idempotent=True,
    retry=Retry(
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type(grpc.RpcError) | tenacity.retry_if_result(lambda answer: answer is None),
    ),
)


class Spoilt(grpc.aio.UnaryUnaryClientInterceptor):
    """Somebody's interceptor, after which one question to a call raises."""

    def __init__(self, question: str) -> None:
        self._question = question

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Go on, and spoil what comes of it."""
        call = await continuation(client_call_details, request)
        setattr(call, self._question, _fail)
        return call


class SpoiltStream(grpc.aio.UnaryStreamClientInterceptor):
    """The same for streamed responses."""

    def __init__(self, question: str) -> None:
        self._question = question

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Go on, and spoil what comes of it."""
        call = await continuation(client_call_details, request)
        setattr(call, self._question, _fail)
        return call


class Unready(grpc.aio.UnaryUnaryClientInterceptor):
    """Somebody's interceptor, after which a good call cannot be awaited."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Go on, and spoil what has ended well."""
        call = await continuation(client_call_details, request)
        if await call.code() is grpc.StatusCode.OK:
            call.__class__ = type("Unready", (type(call),), {"__await__": lambda _: _fail().__await__()})
        return call


async def _fail() -> None:
    raise RuntimeError("not to be asked")


async def in_time(wait: Any) -> Any:
    """Return what is waited for, in good time."""
    return await asyncio.wait_for(wait, PATIENCE)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_failed_call_that_cannot_be_asked_how_it_ended_ends(grpc_servers: Servers, question: str) -> None:
    """With what was raised: there is no status to tell of."""
    chain = [*aio_client_interceptors(Policy.standard()), Spoilt(question), SpoiltStream(question)]
    async with grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=chain) as channel:
        stub, failing = pb_grpc.ProbeStub(channel), [("x-fail", "NOT_FOUND:-1")]
        with pytest.raises(RuntimeError, match="not to be asked"):
            await in_time(stub.Unary(ping(), metadata=failing))
        with pytest.raises(RuntimeError, match="not to be asked"):
            await in_time(stub.ServerStream(ping(), metadata=failing).read())


async def test_a_call_whose_answer_is_to_be_judged_and_cannot_be_had_ends(grpc_servers: Servers) -> None:
    """The second attempt succeeds, and a retry condition wants to see its response."""
    ours = aio_client_interceptors(JUDGING)
    async with grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=[*ours, Unready()]) as channel:
        failing = [("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex)]
        with pytest.raises(RuntimeError, match="not to be asked"):
            await in_time(pb_grpc.ProbeStub(channel).Unary(ping(), metadata=failing))


@pytest.mark.parametrize("look", ["at a result", "for the true end"])
async def test_a_call_whose_end_is_being_looked_at_ends_although_that_look_is_cancelled(
    grpc_servers: Servers, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """As by a shutdown that cancels all tasks: neither does the caller wait for ever, nor is it counted for ever."""
    if look == "for the true end":
        monkeypatch.setattr(flow, "PROVISIONAL", "asked to fail: 1")  # the server's words, in the place of gRPC's
        monkeypatch.setattr(flow, "PROVISIONAL_LOOKS", 10**6)
    else:
        monkeypatch.setattr(flow.AioFlow, "_judge", _for_ever)
    with Mesh({"probe": [grpc_servers[0].address]}, policy=JUDGING) as mesh:
        async with mesh.service("probe").grpc_aio_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            ids = (("x-id", uuid.uuid4().hex), ("x-fail", "INVALID_ARGUMENT:1"))
            call = stub.Unary(ping()) if look == "at a result" else stub.ClientStream(metadata=ids)
            if look == "for the true end":
                await call.done_writing()
            await soon(lambda: call._flow._later is not None, "nobody looks")
            call._flow._later.cancel()
            await soon(call.done, "it goes on")
            async with asyncio.timeout(PATIENCE):
                code = await call.code()
            assert code is (grpc.StatusCode.OK if look == "at a result" else grpc.StatusCode.INVALID_ARGUMENT)
            assert in_flight(mesh.service("probe")) == 0


async def _for_ever(*_: Any) -> None:
    await asyncio.Event().wait()
