"""Connections to registries: kept for the next request, closed with the last user, and every failure named."""

from __future__ import annotations

import asyncio
import gc
import ssl
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery import lines as module
from svcmesh.discovery.handshake import OneConnection
from svcmesh.discovery.lines import Ask, HungUp, Lines, NoAnswer, Server, Unfit, body_of, seconds_of, without
from svcmesh.discovery.tls import Tls, tls_context

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Answering:
    """A server that answers each request with the same bytes, and counts its connections."""

    def __init__(self, answer=GOOD):
        self.answer, self.connections, self.open = answer, 0, 0

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield Server(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def gone(self):
        async with asyncio.timeout(10):
            while self.open:  # noqa: ASYNC110 - a look at the server from outside
                await asyncio.sleep(0.01)


async def asked(lines, server, target="/", patience=10.0):
    async with lines.exchange(Ask(server, "GET", target, {}, patience)) as response:
        return await body_of(response, 100)


async def test_a_certificate_that_a_server_misses_is_named(monkeypatch):
    """With TLS 1.3 it says so after the handshake: a question that was sent gets an alert for an answer."""

    async def refused(*_):
        raise ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")

    monkeypatch.setattr(OneConnection, "handle_async_request", refused)
    lines = Lines(Tls(), "it")
    async with lines.open():
        with pytest.raises(NoAnswer, match=r"TLS failed \(.*\): does it want another certificate\?"):
            await asked(lines, Server("http://127.0.0.1:1"))


async def test_whoever_hangs_up_in_the_handshake_has_hung_up_and_files_are_read_anew(monkeypatch):
    """An agent that takes no more connections does so, and so does who refuses a certificate without a word."""
    made = []
    monkeypatch.setattr(module, "tls_context", lambda *given: made.append(given) or tls_context(*given))

    async def hang_up(_, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    lines = Lines(Tls(), "it")
    async with server, lines.open():
        address = Server(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(2):
            with pytest.raises(HungUp, match="hung up in the TLS handshake"):
                await asked(lines, address)
    assert len(made) == 2


async def test_whoever_speaks_no_tls_has_not_hung_up():
    async def refuse(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    lines = Lines(Tls(), "it")
    async with server, lines.open():
        with pytest.raises(NoAnswer, match="cannot connect") as caught:
            await asked(lines, Server(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    assert not isinstance(caught.value, HungUp)


async def test_a_connection_serves_the_next_request_and_goes_with_the_last_user():
    lines, answering = Lines(Tls(), "it"), Answering()
    async with answering.running() as server:
        async with lines.open():
            async with lines.open():
                assert await asked(lines, server) == b"ok"
            assert await asked(lines, server) == b"ok"
            assert (answering.connections, answering.open) == (1, 1)
        await answering.gone()


async def test_requests_under_way_at_once_have_connections_of_their_own():
    lines, answering = Lines(Tls(), "it"), Answering()
    async with answering.running() as server, lines.open():
        async with lines.exchange(Ask(server, "GET", "/", {}, 10.0)):
            assert await asked(lines, server) == b"ok"
        assert answering.connections == 2
    await answering.gone()


async def test_what_is_not_read_to_its_end_disturbs_nobody():
    lines, answering = Lines(Tls(), "it"), Answering()
    async with answering.running() as server, lines.open():
        async with lines.exchange(Ask(server, "GET", "/", {}, 10.0)):
            pass
        assert await asked(lines, server) == b"ok"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "no answer for 0.2 s"),
        (b"garbage\r\n\r\n", "illegal"),
    ],
)
async def test_an_answer_that_breaks_is_no_answer(answer, told):
    lines = Lines(Tls(), "it")
    async with Answering(answer).running() as server, lines.open():
        with pytest.raises(NoAnswer, match=told):
            await asked(lines, server, patience=0.2)


@pytest.mark.parametrize("packed", ["gzip", "gzip, gzip", "br"])
async def test_a_packed_answer_is_refused_since_a_few_bytes_of_it_may_be_any_number(packed):
    answer = f"HTTP/1.1 200 OK\r\nContent-Encoding: {packed}\r\nContent-Length: 2\r\n\r\nok".encode()
    lines = Lines(Tls(), "X")
    async with Answering(answer).running() as server, lines.open():
        with pytest.raises(Unfit, match=f"answered packed \\('{packed}'\\), which was not asked for"):
            await asked(lines, server)


async def test_an_answer_that_says_that_it_is_not_packed_is_none():
    lines, plain = Lines(Tls(), "X"), GOOD.replace(b"OK\r\n", b"OK\r\nContent-Encoding: Identity\r\n")
    async with Answering(plain).running() as server, lines.open():
        assert await asked(lines, server) == b"ok"


async def test_whoever_does_not_listen_is_named():
    lines = Lines(Tls(), "the oracle")
    async with lines.open():
        with pytest.raises(NoAnswer, match="is the oracle running there"):
            await asked(lines, Server("http://127.0.0.1:1"))
        with pytest.raises(Unfit, match="cannot be asked"):
            await asked(lines, Server("http://127.0.0.1:1"), target="/\0")


async def test_a_file_of_tls_that_is_missing_is_named():
    lines = Lines(Tls(ca_file="/nowhere/ca.pem"), "the oracle")
    async with lines.open():
        with pytest.raises(DiscoveryError, match=r"TLS for the oracle .*/nowhere/ca\.pem"):
            await asked(lines, Server("https://127.0.0.1:1"))


async def test_a_body_is_bounded_in_size_and_in_time(monkeypatch):
    response = httpx.Response(200, content=b"x" * 101)
    with pytest.raises(Unfit, match="more than 100 bytes"):
        await body_of(response, 100)

    async def dripping():
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    monkeypatch.setattr(module, "SLOWEST", 0.1)
    with pytest.raises(NoAnswer, match=r"did not end within 0\.1 s"):
        await body_of(httpx.Response(200, content=dripping()), 1_000_000)


@pytest.mark.parametrize(("text", "seconds"), [(None, None), ("7", 7.0), ("0", 0.0), ("soon", None), ("²", None)])
def test_retry_after_is_a_number_of_seconds_or_nothing(text, seconds):
    assert seconds_of(text) == seconds


@given(st.text(max_size=30))
def test_any_retry_after_is_read(text):
    seconds = seconds_of(text)
    assert seconds is None or 0 <= seconds < 1_000_000


def test_our_own_headers_are_cut_out_of_what_is_shown():
    secrets = {"Authorization": "Bearer abc", "X-Token": "def"}
    assert without(secrets, b"1 Bearer abc 2 abc 3 def 4") == "1 … 2 … 3 … 4".encode()


def test_a_request_does_not_show_what_is_secret_in_it():
    ask = Ask(Server("http://x:1"), "PUT", "/v1", {"Authorization": "Bearer secret"}, 1.0, b"secret")
    assert "secret" not in repr(ask)


async def test_a_request_that_is_cancelled_in_its_tls_handshake_leaves_no_socket_open():
    """The stock transport forgets that socket; the leak check would find it, but only if it were collected in time."""
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def hold(reader, writer):
        await reader.read(1)  # a handshake has begun, and gets no answer
        begun.set()
        while await reader.read(1024):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    lines = Lines(Tls(), "a registry")
    async with server, lines.open():
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def ask():
            async with lines.exchange(Ask(Server(address), "GET", "/", {}, 30.0)):
                raise AssertionError("there is no answer")

        asking = asyncio.ensure_future(ask())
        gc.disable()  # so that it is us who close it
        try:
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            async with asyncio.timeout(10):
                await ended.wait()
        finally:
            gc.enable()
