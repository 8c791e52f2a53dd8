"""A health check by TCP: a connection, and what has to come on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.policy import HealthCheck, TcpHealthCheck
from svcmesh.policy.health.finding import Unwell
from svcmesh.transport.health.tcp import TcpAsker
from tests.servers.ports import HeldPort


async def found(tcp: TcpHealthCheck, port: int) -> str:
    asker = TcpAsker(HealthCheck(tcp_health_check=tcp), tcp, "orders")
    try:
        await asyncio.wait_for(asker.ask(Endpoint(f"127.0.0.1:{port}")), 30)
    except Unwell as error:
        return error.reason + "!" * error.answered
    finally:
        asker.forget(Endpoint(f"127.0.0.1:{port}"))
        asker.close()
        await asyncio.sleep(0)
    return "well"


@asynccontextmanager
async def answering(*parts: bytes, hears: bytes = b"", stays: bool = True):
    """Listen, and send these parts once ``hears`` has come."""

    async def serve(reader, writer) -> None:
        if hears:
            await reader.readuntil(hears)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.005)
        if stays:
            with suppress(ConnectionError):
                await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for _ in range(10):
        await asyncio.sleep(0.002)


async def test_a_connection_that_is_accepted_is_enough() -> None:
    async with answering() as port:
        assert await found(TcpHealthCheck(), port) == "well"


async def test_a_connection_that_is_refused_is_not() -> None:
    with HeldPort() as gone:
        assert await found(TcpHealthCheck(), gone.number) == "connection refused"


@pytest.mark.parametrize(
    ("receive", "parts"),
    [
        (b"PONG", (b"+PONG\r\n",)),
        (b"PONG", (b"+PO", b"NG\r\n")),
        ([b"a", b"b"], (b"xxaxx", b"xxbxx")),
        ([b"ab", b"bc"], (b"abbc",)),
        ([b"a", b"a"], (b"a", b"a")),
    ],
)
async def test_what_is_expected_may_come_in_parts_and_with_other_things_between(receive, parts) -> None:
    async with answering(*parts, hears=b"PING\r\n") as port:
        assert await found(TcpHealthCheck(b"PING\r\n", receive), port) == "well"


@pytest.mark.parametrize(
    ("receive", "parts"),
    [(b"PONG", (b"-ERR\r\n",)), ([b"b", b"a"], (b"ab",)), ([b"a", b"a"], (b"a",)), ([b"ab", b"bc"], (b"abc",))],
)
async def test_what_does_not_come_before_the_end_is_missed(receive, parts) -> None:
    async with answering(*parts, stays=False) as port:
        assert await found(TcpHealthCheck(b"", receive), port) == (
            "the connection was closed before what is expected came"
        )


async def test_somebody_who_talks_without_end_is_not_listened_to_for_ever() -> None:
    async with answering(*[b"x" * 32768] * 8) as port:
        assert await found(TcpHealthCheck(b"", b"PONG"), port) == (
            "what is expected is not among the first 65536 bytes!"
        )


async def test_what_is_sent_arrives_where_nothing_is_expected() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader, writer) -> None:
        heard.put_nowait(await reader.read())
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        assert await found(TcpHealthCheck(b"hello"), listener.sockets[0].getsockname()[1]) == "well"
        assert await heard.get() == b"hello"
