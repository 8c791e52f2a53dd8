"""Call objects of asyncio where somebody else's code fails: a done callback, an interceptor. Against real servers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc.aio
import pytest

from svcmesh import Delay, Fault, info
from svcmesh.grpc import aio_client_interceptors
from svcmesh.policy.policy import Policy
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
QUESTIONS = ("code", "details", "initial_metadata", "trailing_metadata", "debug_error_string")


def raises(_: Any) -> None:
    raise ValueError("mine")


async def test_a_done_callback_that_raises_keeps_nobody_from_learning_of_the_end(
    grpc_servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; other callbacks are called, and closing with a grace waits for the call and no longer."""
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    told: list[Any] = []
    with service_over([grpc_servers[0].address]) as service:
        channel = service.grpc_aio_channel()
        call = pb_grpc.ProbeStub(channel).Unary(ping(), metadata=[("x-before", "0.2")])
        call.add_done_callback(raises)
        call.add_done_callback(told.append)
        began = time.monotonic()
        with caplog.at_level(logging.ERROR, "svcmesh.grpc"):
            await channel.close(3 * PATIENCE)
        took = time.monotonic() - began

        assert await call.code() is grpc.StatusCode.OK
    assert took < PATIENCE
    assert told == [call]
    assert [record.getMessage() for record in caplog.records] == ["Exception in callback of an RPC"]
    caplog.clear()  # the traceback refers to the call
    assert unheard == []


class Failing(grpc.aio.UnaryUnaryClientInterceptor):
    """Has an error of its own."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        await asyncio.sleep(0.01)
        raise KeyError("mine")


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_call_that_ended_with_an_interceptor_s_error_raises_it_when_asked(
    grpc_servers: Servers, question: str
) -> None:
    """As stock calls do, also once it is over."""
    interceptors = [*aio_client_interceptors(Policy.standard()), Failing()]
    async with grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=interceptors) as channel:
        call = pb_grpc.ProbeStub(channel).Unary(ping())
        with pytest.raises(KeyError, match="mine"):
            await call
        with pytest.raises(KeyError, match="mine"):
            await getattr(call, question)()


async def ended(step: Any) -> Any:
    """Return what a step of a stream came to."""
    try:
        return await step()
    except asyncio.CancelledError:
        return "cancelled"
    except grpc.RpcError as error:
        return error.code()


async def styles(channel: Any) -> list[Any]:
    """Return what streams that fail, end or are cancelled say to those who both iterate and read."""
    stub = pb_grpc.ProbeStub(channel)
    failing = stub.ServerStream(ping(count=2), metadata=(("x-fail-at", "DATA_LOSS:1"),))
    found = [await ended(lambda: every(failing)), await ended(failing.read), await ended(failing.read)]
    well = stub.ServerStream(ping(count=1))
    found += [len(await every(well)), await well.read()]
    dropped = stub.ServerStream(ping(count=1), metadata=(("x-hang", "1"),))
    dropped.cancel()
    return [*found, await ended(dropped.read), await ended(lambda: every(dropped))]


async def every(call: Any) -> list[Any]:
    return [message async for message in call]


async def test_a_stream_that_has_ended_says_how_in_whatever_style_it_is_asked(grpc_servers: Servers) -> None:
    """A failure does not look like a good end because somebody else has seen it first."""
    address = grpc_servers[0].address
    async with grpc.aio.insecure_channel(address) as channel:
        stock = await styles(channel)
    with service_over([address]) as service:
        async with service.grpc_aio_channel() as channel:
            ours = await styles(channel)
    assert ours == stock
    assert stock == [grpc.StatusCode.DATA_LOSS] * 3 + [1, grpc.aio.EOF, "cancelled", "cancelled"]


@pytest.mark.parametrize("kind", ["Unary", "ServerStream"])
async def test_who_cancels_is_told_how_far_the_call_had_come(grpc_servers: Servers, kind: str) -> None:
    """Not even to its first attempt here, which a fault delays."""
    policy = Policy(faults=[Fault(delay=Delay(PATIENCE))])
    with service_over([grpc_servers[0].address], policy) as service:
        async with service.grpc_aio_channel() as channel:
            call = getattr(pb_grpc.ProbeStub(channel), kind)(ping())
            call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
            told = info(call)
            assert told is not None
            assert (told.attempts, told.reason) == (0, "cancelled")
