"""Many requests over one connection of HTTP/2: what happens to one of them is no affair of the others."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import hashlib
import math
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.core.outcome import REFUSED_STREAM
from svcmesh.transport.http.connection.awaiting import TaskPlace
from svcmesh.transport.http.connection.readers import readers
from svcmesh.transport.http.http2 import link
from svcmesh.transport.http.http2.trunk import Trunk
from svcmesh.transport.http.http2.trunk_pool import SharingPool
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, AsyncCaller, Caller, Colour, in_flight
from tests.transport.http.connection.test_wire import CERTIFICATE, TLS

MODULE = "tests.servers.h2_server"
BODY = random.Random(5).randbytes(1_000_000)
SUM = hashlib.sha256(BODY).hexdigest()
PLAIN: dict[str, Any] = {"http1": False, "http2": True, "base_url": "http://orders", "timeout": 30}


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture(scope="module")
def plain() -> Iterator[HttpServer]:
    """A server without TLS, whose clients know that it speaks HTTP/2."""
    with HttpServer("plain", module=MODULE) as server:
        yield server


@pytest.fixture(scope="module")
def narrow() -> Iterator[HttpServer]:
    """A server that takes two streams for each connection, and a hundred bytes at a time."""
    with HttpServer("narrow", module=MODULE, arguments=["--streams", "2", "--window", "100"]) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted() -> Iterator[HttpServer]:
    with HttpServer("tls", module=MODULE, arguments=CERTIFICATE) as server:
        yield server


@contextlib.contextmanager
def serving(server: HttpServer, policy: Policy | None = None) -> Iterator[svcmesh.Service]:
    """Yield the service of one server; nothing of it may be in flight afterwards."""
    with svcmesh.Mesh({"orders": [server.address]}, policy=policy or Policy()) as mesh:
        service = mesh.service("orders")
        yield service
        assert in_flight(service) == 0


@pytest.fixture
def orders(plain: HttpServer) -> Iterator[svcmesh.Service]:
    with serving(plain) as service:
        yield service


def tls() -> dict[str, Any]:
    context = ssl.create_default_context(cafile=TLS / "ca.pem")
    return {"http2": True, "verify": context, "base_url": "https://orders", "timeout": 30}


def pool_of(client: Any) -> Any:
    """Return the one pool of a client."""
    transport = client._transport
    kept = getattr(transport, "_connections", None)
    homes = [] if kept is not None else transport._loops.values()
    by_origin = kept or (homes[0].connections if homes else {})
    found = [connections.pool for connections in by_origin.values()]
    return found[0] if found else SharingPool(Trunk, TaskPlace)  # nothing has been asked for yet


def of(caller: Caller) -> Any:
    return caller.async_client if isinstance(caller, AsyncCaller) else caller.client


def together(caller: Caller, ask: list[str], hurried: Sequence[str] = ()) -> list[Any]:
    """Ask for all paths at once, from threads or tasks; return answers and errors in their order.

    Args:
        caller: who asks. ask: the paths. hurried: those that are waited for for half a second.
    """
    times: dict[str, Any] = {path: {"timeout": httpx.Timeout(30, read=0.5)} for path in hurried}
    if isinstance(caller, AsyncCaller):

        async def gather() -> list[Any]:
            asking = (caller.async_client.get(path, **times.get(path, {})) for path in ask)
            return await asyncio.gather(*asking, return_exceptions=True)

        return caller.run(gather())

    def get(path: str) -> Any:
        try:
            return caller.client.get(path, **times.get(path, {}))
        except Exception as error:  # noqa: BLE001 - that is what is looked at
            return error

    with ThreadPoolExecutor(len(ask)) as pool:
        return list(pool.map(get, ask))


def stats(client: Caller) -> dict[str, Any]:
    return client.get("/stats").json()


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_many_at_once_share_one_connection(caller: Colour, way: str, plain: HttpServer, encrypted: HttpServer) -> None:
    """From the first moment on: whoever comes while it is made waits for it."""
    count = 64 if caller is AsyncCaller else 16
    arguments = PLAIN if way == "plain" else tls()
    with serving(plain if way == "plain" else encrypted) as service, caller(service, **arguments) as client:
        answers = together(client, ["/slow/0.1", "/echo"] * (count // 2))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.http_version for answer in answers} == {"HTTP/2"}
        assert len({answer.extensions["stream_id"] for answer in answers}) == count
        pool = pool_of(of(client))
        assert (pool.opened, pool.idle, pool.calls, pool.waiting) == (1, 1, 0, 0)


def test_rounds_of_threads_and_tasks_get_their_own_answers(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        for turn in range(3):
            paths = [f"/echo/{turn}/{number}" for number in range(16)]
            assert [answer.json()["path"] for answer in together(client, paths)] == paths
        assert pool_of(of(client)).opened == 1


@pytest.mark.parametrize("way", ["plain", "narrow", "tls"])
def test_bodies_of_any_size_go_both_ways(
    caller: Colour, way: str, plain: HttpServer, narrow: HttpServer, encrypted: HttpServer
) -> None:
    """Through windows of a hundred bytes as through wide ones."""
    server = {"plain": plain, "narrow": narrow, "tls": encrypted}[way]
    body = BODY[:20_000] if way == "narrow" else BODY
    with serving(server) as service, caller(service, **(tls() if way == "tls" else PLAIN)) as client:
        found = client.request("POST", "/upload", content=body).json()
        assert found == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert len(client.get("/bytes/6000000").content) == 6_000_000
        assert client.request("POST", "/upload", content=b"").json()["length"] == 0


def parts() -> Iterator[bytes]:
    for start in range(0, len(BODY), 100_000):
        yield BODY[start : start + 100_000]


async def async_parts() -> AsyncIterator[bytes]:
    for part in parts():
        yield part


def test_bodies_of_generators(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        content = async_parts() if caller is AsyncCaller else parts()
        assert client.request("POST", "/upload", content=content).json() == {"length": len(BODY), "sha256": SUM}


class Broken(Exception):
    """What the caller's own generator raises."""


def broken() -> Iterator[bytes]:
    yield b"one"
    raise Broken


async def async_broken() -> AsyncIterator[bytes]:
    yield b"one"
    raise Broken


def test_a_generator_that_raises_cancels_its_stream(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        before = stats(client).get("reset 8", 0)
        with pytest.raises(Broken):
            client.request("POST", "/upload", content=async_broken() if caller is AsyncCaller else broken())
        assert stats(client)["reset 8"] == before + 1
        assert pool_of(of(client)).opened == 1


def test_no_more_streams_than_the_server_allows(caller: Colour, narrow: HttpServer) -> None:
    """Two each: of eight at once, each connection carries two, and nothing is refused."""
    with serving(narrow) as service, caller(service, **PLAIN) as client:
        answers = together(client, ["/slow/0.1"] * 8)
        assert {answer.status_code for answer in answers} == {200}
        assert pool_of(of(client)).opened <= 8
        assert stats(client)["most"] <= 2


def test_limits_hold_for_connections(caller: Colour, narrow: HttpServer) -> None:
    """With one connection of two streams six requests wait for each other; with no time to wait that is PoolTimeout."""
    limits = httpx.Limits(max_connections=1)
    with serving(narrow) as service:
        with caller(service, **PLAIN, limits=limits) as client:
            assert {answer.status_code for answer in together(client, ["/slow/0.02"] * 6)} == {200}
            assert pool_of(of(client)).opened == 1
        hurried = PLAIN | {"timeout": httpx.Timeout(10, pool=0.05)}
        with caller(service, **hurried, limits=limits) as client:
            client.get("/echo")
            answers = together(client, ["/slow/2"] * 3)
            assert sorted(type(answer).__name__ for answer in answers) == ["PoolTimeout", "Response", "Response"]


def test_a_timeout_ends_one_stream(caller: Colour, orders: svcmesh.Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its siblings go on, on the same connection, and its server is told."""
    monkeypatch.setattr(link, "SILENCE", math.inf)
    with caller(orders, **PLAIN) as client:
        before = stats(client).get("reset 8", 0)
        one, two, three = together(client, ["/slow/60", "/slow/0.05", "/mute"], hurried=["/slow/60", "/mute"])
        assert (type(one), two.status_code, type(three)) == (httpx.ReadTimeout, 200, httpx.ReadTimeout)
        found = stats(client)
        assert found["reset 8"] == before + 2
        pool = pool_of(of(client))
        assert (pool.opened, pool.calls) == (1, 0)


@pytest.mark.parametrize("given_up", ["in time", "by cancelling", "by dropping"])
def test_a_connection_that_was_waited_for_in_vain_gets_no_more(
    orders: svcmesh.Service, monkeypatch: pytest.MonkeyPatch, given_up: str
) -> None:
    """It may have been dead all the time, and would take one request after the other along; what it has goes on."""
    monkeypatch.setattr(link, "SILENCE", 0.0)

    async def program() -> None:
        async with orders.http_async_client(**PLAIN) as client:
            before = (await client.get("/stats")).json()["connections"]
            word = f"at-last/{given_up.replace(' ', '-')}"
            sibling = asyncio.create_task(client.get(f"/after/{word}"))
            if given_up == "in time":
                with pytest.raises(httpx.ReadTimeout):
                    await client.get("/slow/9", timeout=httpx.Timeout(10, read=0.1))
            elif given_up == "by cancelling":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.get("/slow/9"), 0.1)
            else:
                response = await client.send(client.build_request("GET", "/mute"), stream=True)
                del response
                gc.collect()
            assert (await client.get("/stats")).json()["connections"] == before + 1
            await client.get(f"/{word}")
            assert (await sibling).status_code == 200
            assert pool_of(client).opened == 1

    asyncio.run(program())


def test_a_dead_connection_fails_one_request(
    caller: Colour, orders: svcmesh.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From here a server that says nothing on it looks just like that."""
    monkeypatch.setattr(link, "SILENCE", 0.0)
    with caller(orders, **PLAIN) as client:
        before = stats(client)["connections"]
        with pytest.raises(httpx.ReadTimeout):
            client.get("/slow/9", timeout=httpx.Timeout(10, read=0.1))
        assert stats(client)["connections"] == before + 1
        assert pool_of(of(client)).opened == 1


def test_a_connection_that_answers_is_kept_whoever_gives_up(
    caller: Colour, orders: svcmesh.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who give up at once have learned nothing of it."""
    monkeypatch.setattr(link, "SILENCE", 60.0)  # however long this machine takes
    with caller(orders, **(PLAIN | {"timeout": httpx.Timeout(10, read=0.05)})) as client:
        before = client.request("GET", "/stats", timeout=10).json()["connections"]
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                client.get("/slow/9")
            assert client.request("GET", "/stats", timeout=10).json()["connections"] == before


def test_a_reset_ends_one_stream(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        one, two, three = together(client, ["/reset/2", "/slow/0.1", "/cut"])
        assert (type(one), two.status_code, type(three)) == (httpx.RemoteProtocolError, 200, httpx.RemoteProtocolError)
        assert pool_of(of(client)).opened == 1


@pytest.mark.parametrize("path", ["/close/3", "/garbage/3"])
def test_a_broken_connection_ends_each_with_its_own_error(caller: Colour, orders: svcmesh.Service, path: str) -> None:
    with caller(orders, **PLAIN) as client:
        client.get("/echo")
        found = together(client, ["/slow/60", "/slow/60", path])
        assert {type(error) for error in found} == {httpx.RemoteProtocolError}
        assert len(set(map(id, found))) == 3
        assert client.get("/echo").status_code == 200
        assert pool_of(of(client)).opened == 1


def test_a_server_that_dies_leaves_nobody_waiting(caller: Colour) -> None:
    with HttpServer("mortal", module=MODULE) as server, serving(server) as service, caller(service, **PLAIN) as client:
        found = together(client, ["/slow/60"] * 5 + ["/die/1"])
        assert all(isinstance(error, httpx.TransportError) for error in found)
        with pytest.raises(httpx.ConnectError):
            client.get("/echo")


def test_a_goodbye_lets_what_it_covers_finish(caller: Colour, orders: svcmesh.Service) -> None:
    """And the next request goes to a new connection."""
    with caller(orders, **PLAIN) as client:
        before = stats(client)["connections"]
        assert client.get("/goaway/0.1").status_code == 200
        assert client.get("/echo").status_code == 200
        assert stats(client)["connections"] == before + 1


def test_what_a_goodbye_leaves_out_goes_elsewhere_unseen(caller: Colour, orders: svcmesh.Service) -> None:
    """It was surely not executed: even without a policy, and whatever the method, as the stock pool does."""
    with caller(orders, **PLAIN) as client:
        client.get("/echo")
        path = f"/above/{caller.__name__}"
        assert client.request("POST", path, content=b"once").status_code == 200
        assert stats(client)["paths"][path] == 2


def test_what_is_left_out_at_once_is_known_to_be_unsent(caller: Colour, orders: svcmesh.Service) -> None:
    """On a connection of its own it is the policy's to repeat, also a POST; without one the caller is told."""
    with caller(orders, **PLAIN) as client, pytest.raises(httpx.RemoteProtocolError):
        client.request("POST", f"/above/none/{caller.__name__}", content=b"once")
    service = orders.with_policy(Policy.standard())
    with caller(service, **PLAIN) as client:
        response = client.request("POST", f"/above/some/{caller.__name__}", content=b"once")
        info = svcmesh.info(response)
        assert info is not None
        assert (response.status_code, info.attempts) == (200, 2)
    with caller(orders, **PLAIN) as client, pytest.raises(httpx.RemoteProtocolError) as caught:
        client.request("POST", f"/refuse/none/{caller.__name__}", content=b"once")
    found = svcmesh.info(caught.value)
    assert found is not None
    assert found.reason == REFUSED_STREAM


def test_an_answer_may_come_before_the_body_is_sent(caller: Colour, orders: svcmesh.Service) -> None:
    """The rest is not sent then; the stock client stumbles over it."""
    with caller(orders, **PLAIN) as client:
        assert client.request("POST", "/early", content=BODY).status_code == 413
        assert client.get("/echo").status_code == 200
        assert pool_of(of(client)).opened == 1


def test_a_window_that_stays_closed_is_a_write_timeout(caller: Colour, orders: svcmesh.Service) -> None:
    """And one of that stream: others on the same connection are answered."""
    with caller(orders, **(PLAIN | {"timeout": httpx.Timeout(10, write=0.1)})) as client:
        with pytest.raises(httpx.WriteTimeout):
            client.request("POST", "/shut", content=BODY[:100_000])
        assert client.get("/echo").status_code == 200
        assert pool_of(of(client)).opened == 1


def test_pings_are_answered_while_somebody_waits(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        assert client.get("/ping").json() == {"pong": True}


def test_a_server_may_allow_fewer_streams_later(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        assert client.get("/settings/1").json() == {"allowed": 1}
        answers = together(client, ["/slow/0.05"] * 3)
        assert {answer.status_code for answer in answers} == {200}


def test_a_slow_reader_holds_up_nobody(caller: Colour, orders: svcmesh.Service) -> None:
    """Twelve million bytes wait for a caller who does not read, while others get theirs on the same connection."""
    with caller(orders, **PLAIN) as client:
        if isinstance(client, AsyncCaller):

            async def check() -> int:
                async with client.async_client.stream("GET", "/bytes/12000000") as response:
                    for _ in range(3):
                        assert len((await client.async_client.get("/bytes/100000")).content) == 100_000
                    assert pool_of(client.async_client).opened == 1
                    return sum([len(part) async for part in response.aiter_raw()])

            assert client.run(check()) == 12_000_000
        else:
            with client.client.stream("GET", "/bytes/12000000") as response:
                for _ in range(3):
                    assert len(client.get("/bytes/100000").content) == 100_000
                assert pool_of(client.client).opened == 1
                assert sum(len(part) for part in response.iter_raw()) == 12_000_000


def test_a_streamed_answer_that_is_closed_is_cancelled(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **PLAIN) as client:
        before = stats(client).get("reset 8", 0)
        if isinstance(client, AsyncCaller):

            async def peek() -> None:
                async with client.async_client.stream("GET", "/bytes/12000000") as response:
                    assert response.status_code == 200

            client.run(peek())
        else:
            with client.client.stream("GET", "/bytes/12000000") as response:
                assert response.status_code == 200
        assert stats(client)["reset 8"] == before + 1
        assert pool_of(of(client)).opened == 1


def test_a_streamed_answer_that_is_dropped_is_cancelled(caller: Colour, orders: svcmesh.Service) -> None:
    """Neither closed nor read: its finalizer gives the stream back, and the connection carries the next one."""
    with caller(orders, **PLAIN) as client:
        if isinstance(client, AsyncCaller):
            asked: Any = client.async_client.build_request("GET", "/mute")
            response = client.run(client.async_client.send(asked, stream=True))
        else:
            response = client.client.send(client.client.build_request("GET", "/mute"), stream=True)
        assert in_flight(orders) == 1
        del response
        gc.collect()
        assert in_flight(orders) == 0
        assert client.get("/echo").status_code == 200
        assert pool_of(of(client)).calls == 0


async def test_cancelled_at_any_moment_nothing_is_lost(plain: HttpServer) -> None:
    """A storm of impatience over one connection: each slot comes back, and siblings never notice."""
    rng = random.Random(3)
    with serving(plain) as service:
        async with service.http_async_client(**PLAIN) as client:

            async def impatient() -> None:
                for turn in range(20):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(client.get("/slow/0.004"), 0.0005 * (turn % 20))

            async def steady() -> None:
                for _ in range(10):
                    assert (await client.get(f"/slow/{rng.random() / 100}")).status_code == 200

            await asyncio.gather(*(impatient() for _ in range(30)), *(steady() for _ in range(5)))
            pool = pool_of(client)
            assert (pool.calls, pool.waiting, pool.opened) == (0, 0, pool.idle)
            assert not watched()


async def test_every_step_of_the_loop_is_a_safe_moment(encrypted: HttpServer) -> None:
    """Cancelled after one, two, three… steps, from the connect to the last byte."""
    with serving(encrypted) as service:
        for kept in (False, True):
            async with service.http_async_client(**tls()) as client:
                if kept:
                    await client.get("/echo")
                for steps in range(40):
                    task = asyncio.create_task(client.get("/bytes/100000"))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    pool = pool_of(client)
                    assert (pool.calls, pool.waiting, pool.opened) == (0, 0, pool.idle)
                assert (await client.get("/echo")).status_code == 200
            assert not watched()


def watched() -> list[Any]:
    """Return the sockets that the loop still watches, its own aside, and which of ours are waited for."""
    loop = asyncio.get_running_loop()
    selector = getattr(loop, "_selector", None)
    assert selector is not None
    own = "_read_from_self", "Readers._look"
    keys = [key for key in selector.get_map().values() if not any(each in repr(key.data) for each in own)]
    return [*keys, *getattr(readers(loop), "_waits", ())]


def test_an_endpoint_that_leaves_is_drained(plain: HttpServer) -> None:
    """Its connection goes with the last answer that is under way; the server is told, and no idle one is kept."""
    with serving(plain) as service, service.http_client(**PLAIN) as client:
        before = client.get("/stats").json().get("goodbye", 0)
        (member,) = service.view.cluster.members.values()
        pool = pool_of(client)
        with client.stream("GET", "/bytes/6000000") as response:
            member.close()  # what the cluster does with one that has left
            assert (pool.opened, pool.calls, member in pool) == (1, 1, False)
            assert sum(map(len, response.iter_raw())) == 6_000_000
        assert pool.opened == 0
        assert client.get("/stats").json()["goodbye"] == before + 1


def test_idle_connections_expire(caller: Colour, orders: svcmesh.Service) -> None:
    limits = httpx.Limits(keepalive_expiry=0.05)
    with caller(orders, **PLAIN, limits=limits) as client:
        before = stats(client)["connections"]
        time.sleep(0.1)
        assert stats(client)["connections"] == before + 1
        assert pool_of(of(client)).opened == 1


def test_a_server_of_http_1_is_spoken_to_as_such(caller: Colour) -> None:
    """By ALPN: calls do not wait for each other then, and connections are kept."""
    with (
        HttpServer("old", arguments=CERTIFICATE) as server,
        serving(server) as service,
        caller(service, **tls()) as client,
    ):
        for _ in range(3):
            assert {answer.http_version for answer in together(client, ["/slow/0.05"] * 4)} == {"HTTP/1.1"}
        pool = pool_of(of(client))
        assert pool.opened == pool.idle <= 4


def test_who_speaks_something_else_is_not_sent_anything(caller: Colour) -> None:
    """Before a server has said its first words in HTTP/2 no request is sent, so that a POST may go elsewhere."""
    with HttpServer("old") as server, serving(server) as service, caller(service, **PLAIN) as client:
        with pytest.raises(httpx.ConnectError):
            client.request("POST", "/echo", content=b"once")
        assert server.count("/echo") == 0


def test_traces_are_told_as_by_httpcore(caller: Colour, plain: HttpServer) -> None:
    """The same steps in the same order; where the settings are taken differs, for they are waited for."""
    told: dict[str, list[str]] = {"stock": [], "ours": []}

    def tracer(whose: str) -> Any:
        async def trace(name: str, _: Any) -> None:
            told[whose].append(name)

        def plainly(name: str, _: Any) -> None:
            told[whose].append(name)

        return {"trace": trace if caller is AsyncCaller else plainly}

    with serving(plain) as service, caller(service, **PLAIN) as client:
        client.request("POST", "/upload", content=b"once", extensions=tracer("ours"))
    url = f"http://{plain.address}/upload"
    if caller is AsyncCaller:

        async def stock() -> None:
            async with httpx.AsyncClient(http1=False, http2=True) as client:
                await client.post(url, content=b"once", extensions=tracer("stock"))

        asyncio.run(stock())
    else:
        with httpx.Client(http1=False, http2=True) as client:
            client.post(url, content=b"once", extensions=tracer("stock"))
    assert told["ours"] == [name for name in told["stock"] if "remote_settings" not in name]


def test_a_forked_child_leaves_the_parents_connection_alone(plain: HttpServer) -> None:
    """It opens its own; what it drops of the parent's says nothing on the wire."""
    with serving(plain) as service, service.http_client(**PLAIN) as client:
        response = client.send(client.build_request("GET", "/bytes/6000000"), stream=True)
        before = client.get("/stats").json()
        child = os.fork()
        if child == 0:
            del response
            gc.collect()
            os._exit(0 if client.get("/echo").status_code == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sum(map(len, response.iter_raw())) == 6_000_000
        after = client.get("/stats").json()
        assert (after.get("reset 8"), after["connections"]) == (before.get("reset 8"), before["connections"] + 1)


def test_a_forked_child_that_leaves_a_stream_leaves_it_to_its_parent(plain: HttpServer) -> None:
    """A `with` block that the child leaves, too, cancels nothing; nor does it wait for a lock that is held there."""
    with serving(plain) as service, service.http_client(**PLAIN) as client:
        with client.stream("GET", "/bytes/6000000") as response:
            (trunk,) = pool_of(client)._calls
            trunk.link.lock.acquire()  # as another thread may
            child = os.fork()
            if child:
                trunk.link.lock.release()
            else:
                faulthandler.dump_traceback_later(20, exit=True)
                response.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert sum(map(len, response.iter_raw())) == 6_000_000
        assert client.get("/echo").status_code == 200
