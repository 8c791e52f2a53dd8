"""What becomes of a body that is still on its way when the call has ended: who is told what, and how it ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

import svcmesh
from svcmesh import Abort, CallInfo, Delay, Fault, Policy, Retry
from svcmesh.transport.http.exchange import HttpExchange
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, AsyncCaller, Caller, Colour, in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture
def orders(server: HttpServer) -> Iterator[svcmesh.Service]:
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        yield mesh.service("orders")


def told(answer: object) -> CallInfo:
    found = svcmesh.info(answer)
    assert found is not None
    return found


def test_a_body_that_breaks_off_tells_the_story_of_its_call(caller: Colour, orders: svcmesh.Service) -> None:
    """The error comes long after the answer was handed out, and still says where it came from and why it ended."""
    with caller(orders) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            client.raw("/cut-chunked")
        assert told(caught.value).reason == "reset"
        assert told(caught.value).endpoints == orders.endpoints

        with pytest.raises(httpx.RemoteProtocolError) as caught:
            client.raw(f"/first/drop/cut-chunked/{caller.__name__}")
        found = told(caught.value)
        assert (found.attempts, len(found.endpoints), len(found.waits), found.reason) == (2, 2, 1, "reset")
        assert found.elapsed >= sum(found.waits)
    assert in_flight(orders) == 0


def test_events_tell_how_a_body_began_and_counts_how_it_ended(caller: Colour, server: HttpServer) -> None:
    """The caller has the answer when its headers are there, and events say so; ejection hears of the rest."""
    seen: list[tuple[str, str]] = []
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        mesh.events.subscribe(lambda event: seen.append((event.name, event.outcome)), "*.finished")  # type: ignore[attr-defined]
        orders = mesh.service("orders")
        with caller(orders) as client, pytest.raises(httpx.RemoteProtocolError):
            client.raw("/cut-chunked")
        assert seen == [("attempt.finished", "success"), ("call.finished", "success")]
        [member] = orders.view.cluster.members.values()
        assert (member.unsuccessful, member.in_flight) == (1, 0)


@pytest.mark.parametrize("first", ["/status/503", "/status/500", "/cut-chunked"])
def test_the_end_of_an_answer_that_failed_is_no_success_in_a_row_of_failures(
    caller: Colour, server: HttpServer, first: str
) -> None:
    """Its body is read after the attempt has been counted, and before the next one fails without an answer."""
    outliers = svcmesh.OutlierDetection.envoy(consecutive_5xx=2, max_ejection_percent=100)
    policy = Policy(per_try_timeout=0.3, outlier_detection=outliers)
    with svcmesh.Mesh({"orders": [server.address]}, policy=policy) as mesh:
        orders = mesh.service("orders")
        [member] = orders.view.cluster.members.values()
        with caller(orders) as client:
            for url in (first, "/slow/60"):
                assert not orders.view.ejections()
                with suppress(httpx.TransportError):
                    client.raw(url)
        assert [*orders.view.ejections()] == [server.address]
        assert (member.succeeded - member.faulty, member.streaming, member.in_flight) == (0, 0, 0)


def test_nor_does_it_break_a_row_of_failures_for_a_breaker(caller: Colour, server: HttpServer) -> None:
    breaker = svcmesh.CircuitBreaker(consecutive=2, failure_rate=None, open_for=600.0)
    policy = Policy(per_try_timeout=0.3, circuit_breaker=breaker)
    with svcmesh.Mesh({"orders": [server.address]}, policy=policy) as mesh, caller(mesh.service("orders")) as client:
        for url in ("/status/503", "/slow/60"):
            with suppress(httpx.TransportError):
                client.raw(url)
        with pytest.raises(svcmesh.CircuitOpen):
            client.raw("/echo")


def test_a_body_that_is_too_late_tells_that(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders.with_policy(Policy(timeout=0.7))) as client:
        with pytest.raises(svcmesh.DeadlineExceeded) as caught:
            client.raw("/drip")
        found = told(caught.value)
        assert (found.attempts, found.reason) == (1, "deadline")
        assert 0.65 <= found.elapsed < 10


@pytest.mark.parametrize("policy", [Policy.standard(), Policy()], ids=["standard", "nothing on"])
def test_an_answer_that_is_an_error_has_a_reason(caller: Colour, orders: svcmesh.Service, policy: Policy) -> None:
    """Also where nobody thought of repeating it, and after one attempt."""
    with caller(orders.with_policy(policy)) as client:
        for method, status in (("POST", 503), ("GET", 500), ("GET", 429)):
            found = told(client.request(method, f"/status/{status}"))
            assert (found.attempts, len(found.endpoints)) == (1, 1)
            assert found.reason.startswith(str(status))
        assert told(client.get("/status/404")).reason == "", "an answer that no policy looks at"
        assert told(client.get("/echo")).reason == ""


def test_an_answer_put_in_on_purpose_says_so(caller: Colour, orders: svcmesh.Service) -> None:
    """Nobody was asked, so there is no attempt; the status does not matter."""
    for status in (418, 503):
        policy = Policy.standard().replace(faults=[Fault(abort=Abort(http=status), delay=Delay(0.02))])
        with caller(orders.with_policy(policy)) as client:
            response = client.get("/echo")
        found = told(response)
        assert (response.status_code, found.attempts, found.endpoints, found.reason) == (status, 0, (), "fault")
        assert found.elapsed >= 0.02


def test_the_time_of_a_call_includes_what_was_waited_before_it(caller: Colour, orders: svcmesh.Service) -> None:
    policy = Policy.standard().replace(faults=[Fault(delay=Delay(0.05))])
    with caller(orders.with_policy(policy)) as client:
        found = told(client.get("/echo"))
    assert (found.attempts, found.reason) == (1, "")
    assert found.elapsed >= 0.05


def read_a_little(client: Caller, url: str) -> None:
    """Read the first part of a body and let go of it, without a close."""
    if not isinstance(client, AsyncCaller):
        response = client.client.send(client.client.build_request("GET", url), stream=True)
        assert next(response.iter_raw())
        return

    async def read() -> None:
        response = await client.async_client.send(client.async_client.build_request("GET", url), stream=True)
        assert await anext(response.aiter_raw())

    client.run(read())


@pytest.mark.parametrize("path", ["/chunks", "/first/drop/chunks"])
def test_a_body_that_nobody_reads_on_ends_at_once(caller: Colour, orders: svcmesh.Service, path: str) -> None:
    """As in httpx, without the collector, which would come late: its response and its stream refer to each other."""
    gc.collect()
    gc.disable()
    try:
        with caller(orders) as client:
            for number in range(3):
                read_a_little(client, f"{path}/{10 + 10 * (caller is AsyncCaller) + number}")
            for _ in range(3000):
                if isinstance(client, AsyncCaller) and in_flight(orders):
                    client.run(asyncio.sleep(0.01))  # the loop closes generators that were dropped
            assert in_flight(orders) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ImportError])
@pytest.mark.parametrize("path", ["/chunks/10", "/echo"], ids=["a body to come", "a short answer"])
def test_an_answer_that_could_not_be_looked_at_is_counted_once(
    caller: Colour, server: HttpServer, path: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt ends as one without an answer; the body that was still to come is nobody's."""

    def look_at(*_: object) -> None:
        raise error("in the middle of it")

    monkeypatch.setattr(HttpExchange, "_look_at", look_at)
    policy = Policy(retry=Retry(on={404}))
    with svcmesh.Mesh({"orders": [server.address]}, policy=policy) as mesh:
        orders = mesh.service("orders")
        with caller(orders) as client:
            with pytest.raises(error, match="in the middle of it") as caught:
                client.request("POST", path)
            assert in_flight(orders) == 0
            del caught
            gc.collect()
            assert in_flight(orders) == 0
            monkeypatch.undo()
            assert client.get(path).status_code == 200
        assert in_flight(orders) == 0
