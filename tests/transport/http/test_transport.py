"""Both transports against real servers in processes of their own, which misbehave on request."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Abort, Delay, Fault, Policy, Retry
from svcmesh.policy.backoff import FullJitter
from tests.servers.grpc_process import blackhole_port, refused_port
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Caller, Colour, in_flight


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    """Make a client: blocking in one run of the test, awaiting in the other."""
    return COLOURS[request.param]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[HttpServer, HttpServer]]:
    with HttpServer("one") as one, HttpServer("two") as two:
        yield one, two


@pytest.fixture
def pair(servers: tuple[HttpServer, HttpServer]) -> Iterator[svcmesh.Service]:
    """A service of two servers, under the standard policy."""
    with svcmesh.Mesh({"orders": [server.address for server in servers]}) as mesh:
        yield mesh.service("orders")


@pytest.fixture
def single(servers: tuple[HttpServer, HttpServer]) -> Iterator[svcmesh.Service]:
    """A service of one server, under the standard policy."""
    with svcmesh.Mesh({"orders": [servers[0].address]}) as mesh:
        yield mesh.service("orders")


def alone(address: str, policy: Policy | None = None) -> svcmesh.Mesh:
    return svcmesh.Mesh({"orders": [address]}, policy=policy)


def test_the_request_stays_as_the_caller_wrote_it(caller: Colour, pair: svcmesh.Service) -> None:
    """Host, target and body arrive unchanged, and the response carries the logical URL, not the address."""
    with caller(pair) as client:
        response = client.request("POST", "/echo/a%20b?x=1&x=2", content=b"body", headers={"X-Own": "value"})
    seen = response.json()
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert (seen["method"], seen["target"], seen["length"]) == ("POST", "/echo/a%20b?x=1&x=2", 4)
    assert (headers["host"], headers["x-own"]) == ("orders", "value")
    assert str(response.url) == str(response.request.url) == "http://orders/echo/a%20b?x=1&x=2"
    assert response.http_version == "HTTP/1.1"
    assert response.elapsed.total_seconds() > 0


def test_a_host_header_of_the_callers_own_is_kept(caller: Colour, pair: svcmesh.Service) -> None:
    with caller(pair) as client:
        seen = client.get("/echo", headers={"Host": "elsewhere.example"}).json()
    assert ["Host", "elsewhere.example"] in seen["headers"]


def test_connections_are_reused(caller: Colour, pair: svcmesh.Service) -> None:
    """Thirty calls one after the other need one connection to each endpoint."""
    with caller(pair) as client:
        seen = [client.get("/echo").json() for _ in range(30)]
    assert {each["server"] for each in seen} == {"one", "two"}
    assert len({(each["server"], each["connection"]) for each in seen}) == 2
    assert in_flight(pair) == 0


def test_info_tells_of_a_plain_success(caller: Colour, single: svcmesh.Service) -> None:
    with caller(single) as client:
        info = svcmesh.info(client.get("/echo"))
    assert info is not None
    assert (info.attempts, info.endpoints, info.reason) == (1, single.endpoints, "")
    assert info.elapsed > 0


@pytest.mark.parametrize("what", ["drop", "cut", "garbage"])
def test_an_idempotent_request_survives(caller: Colour, single: svcmesh.Service, what: str) -> None:
    """A server that hangs up, cuts its answer short or talks nonsense the first time is asked again."""
    path = f"/first/{what}/echo/{caller.__name__}"
    with caller(single) as client:
        response = client.get(path)
    assert response.json()["target"] == path
    info = svcmesh.info(response)
    assert info is not None
    assert info.attempts == 2
    assert in_flight(single) == 0


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_statuses_are_retried_and_then_returned(caller: Colour, pair: svcmesh.Service, status: int) -> None:
    """After three attempts the caller gets the answer itself, as without svcmesh; no exception of ours."""
    with caller(pair) as client:
        response = client.get(f"/status/{status}")
    assert (response.status_code, response.text) == (status, f"status {status}")
    info = svcmesh.info(response)
    assert info is not None
    assert info.attempts == 3
    assert {endpoint.address for endpoint in info.endpoints} == {endpoint.address for endpoint in pair.endpoints}
    assert in_flight(pair) == 0


@pytest.mark.parametrize("path", ["/status/500", "/status/404", "/status/429"])
def test_other_statuses_are_the_callers_business(caller: Colour, single: svcmesh.Service, path: str) -> None:
    with caller(single) as client:
        response = client.get(path)
    info = svcmesh.info(response)
    assert info is not None
    assert info.attempts == 1


def test_a_status_that_the_policy_names_is_worth_another_attempt_and_blames_nobody(
    caller: Colour, pair: svcmesh.Service
) -> None:
    """Only that one, only where a request may be repeated, and what is left is the answer itself."""
    on_404 = Policy.standard().replace(retry=Retry(on={404}, wait=FullJitter(base=0.001, cap=0.001)))
    orders = pair.with_policy(on_404)
    with caller(orders) as client:
        found = [client.request(*asked) for asked in (("GET", "/status/404"), ("GET", "/status/410"))]
        found.append(client.request("POST", "/status/404"))
        assert found[0].text == "status 404"
    told = [svcmesh.info(response) for response in found]
    assert [info and info.attempts for info in told] == [3, 1, 1]
    assert [info and info.reason for info in told] == ["404; attempts", "", "404; not-idempotent"]
    assert {cell.unsuccessful for cell in orders.view.cluster.members.values()} == {0}
    assert in_flight(orders) == 0


@pytest.mark.parametrize(("scope", "attempts"), [("attempt", 3), ("call", 0)])
def test_a_fault_with_a_status_that_the_policy_names_is_repeated_as_a_servers(
    caller: Colour, single: svcmesh.Service, scope: str, attempts: int
) -> None:
    retry = Retry(on={404}, wait=FullJitter(base=0.001, cap=0.001))
    policy = Policy(faults=Fault(abort=Abort(404), scope=scope), retry=retry, idempotent=True)  # type: ignore[arg-type]
    with caller(single.with_policy(policy)) as client:
        response = client.get("/echo")
    info = svcmesh.info(response)
    assert (response.status_code, info and info.attempts) == (404, attempts)


def test_retry_after_is_waited_for(caller: Colour, single: svcmesh.Service) -> None:
    """A 429 that names a time is repeated then, although a 429 alone is not."""
    with caller(single) as client:
        response = client.get("/status/429?retry-after=0")
    info = svcmesh.info(response)
    assert info is not None
    assert info.attempts == 3
    assert info.retry_after == 0


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_may_have_been_executed_is_not_repeated(caller: Colour, servers: Any, method: str) -> None:
    """The caller gets httpx's own error, at once, and the server saw the request once."""
    path = f"/drop/{method}/{caller.__name__}"
    with alone(servers[0].address) as mesh, caller(mesh.service("orders")) as client:
        client.get("/echo")  # so that the connection is one that might be stale
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            client.request(method, path, content=b"once")
    assert caught.value.request.url.path == path
    assert servers[0].count(path) == 1


def test_no_policy_has_a_post_repeated(caller: Colour, servers: Any) -> None:
    """What is idempotent for gRPC and functions may be a payment here: HTTP has methods that say it."""
    policy = Policy.standard().replace(idempotent=True)
    path = f"/first/drop/echo/{caller.__name__}/all"
    with alone(servers[0].address, policy) as mesh, caller(mesh.service("orders")) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.request("POST", path, content=b"x")
        assert servers[0].count(path) == 1
        assert client.request("PUT", path.replace("all", "put"), content=b"x").status_code == 200


def test_what_was_surely_not_sent_goes_elsewhere(caller: Colour, servers: Any) -> None:
    """A POST whose endpoint refuses connections is sent to the other one."""
    with (
        refused_port() as port,
        svcmesh.Mesh({"orders": [f"127.0.0.1:{port}", servers[0].address]}) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        for _ in range(6):
            assert client.request("POST", "/echo", content=b"x").json()["server"] == "one"


def test_nobody_there_is_httpxs_own_error(caller: Colour) -> None:
    """With every endpoint refusing, the last real error is what callers of httpx know, with its story attached."""
    with refused_port() as port, alone(f"127.0.0.1:{port}") as mesh, caller(mesh.service("orders")) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            client.get("/")
        info = svcmesh.info(caught.value)
        assert info is not None
        assert info.attempts >= 1
        assert not isinstance(caught.value, svcmesh.SvcmeshError)


def test_a_blackhole_costs_one_connect_timeout(caller: Colour, servers: Any) -> None:
    """An endpoint that answers nothing at all is given up after the per-try time, and the other one serves."""
    policy = Policy.standard().replace(per_try_timeout=0.7)
    with (
        blackhole_port() as port,
        svcmesh.Mesh({"orders": [f"127.0.0.1:{port}", servers[0].address]}, policy=policy) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        assert all(client.request("POST", "/echo", content=b"x").status_code == 200 for _ in range(4))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connect_that_uses_up_the_time_is_our_deadline_and_httpxs(caller: Colour, method: str) -> None:
    """Whether the attempt's time ends or the call's: caught by either name, and it says who was asked."""
    with blackhole_port() as port, alone(f"127.0.0.1:{port}", Policy(timeout=0.2)) as mesh:
        with caller(mesh.service("orders")) as client, pytest.raises(httpx.ConnectTimeout) as caught:
            client.request(method, "/echo")
        assert in_flight(mesh.service("orders")) == 0
    assert isinstance(caught.value, svcmesh.DeadlineExceeded)
    assert f" service 'orders' at 127.0.0.1:{port} " in str(caught.value)
    assert "within 0." in str(caught.value)
    assert str(caught.value.request.url) == "http://orders/echo"
    assert svcmesh.info(caught.value) is not None


def test_a_connect_timeout_of_the_client_stays_httpxs(caller: Colour) -> None:
    """``timeout=`` of the client is not the time of the call: its own class, and no refusal of ours."""
    with (
        blackhole_port() as port,
        alone(f"127.0.0.1:{port}", Policy(timeout=5)) as mesh,
        caller(mesh.service("orders")) as client,
        pytest.raises(httpx.ConnectTimeout) as caught,
    ):
        client.get("/echo", timeout=0.1)
    assert not isinstance(caught.value, svcmesh.SvcmeshError)


def test_a_timeout_of_zero_blames_no_server(caller: Colour, single: svcmesh.Service) -> None:
    """It ends the request before anybody could have answered; the next caller finds the server where it was."""
    with caller(single) as client:
        for _ in range(12):
            with pytest.raises(httpx.HTTPError):
                client.get("/echo", timeout=0)
    with caller(single) as client:
        assert client.get("/echo").status_code == 200


def test_an_answer_that_is_late_names_service_and_endpoint(caller: Colour, servers: Any) -> None:
    """Before its head and in its body alike."""
    address = servers[0].address
    by_name = pytest.raises(svcmesh.DeadlineExceeded, match=f"service 'orders' at {address}")
    of_a_body = pytest.raises(svcmesh.DeadlineExceeded, match="the body of an answer from service 'orders' at")
    with alone(address, Policy()) as mesh, caller(mesh.service("orders")) as client:
        client.get("/echo")
        with by_name as late, svcmesh.deadline(0.2):
            client.get("/slow/60")
        with of_a_body as slow, svcmesh.deadline(2.0):  # this machine may take long to begin
            client.get("/drip")
    assert isinstance(late.value, httpx.ReadTimeout)
    assert isinstance(slow.value, httpx.ReadTimeout)


def test_waiting_for_a_connection_until_the_time_is_over_is_our_deadline(caller: Colour, servers: Any) -> None:
    """All are busy: `PoolTimeout` by httpx's name unless the attempt is cut off before; it says who was asked."""
    late, words = svcmesh.DeadlineExceeded, f"service 'orders' at {servers[0].address}"
    limits = httpx.Limits(max_connections=1)
    with (
        alone(servers[0].address, Policy()) as mesh,
        caller(mesh.service("orders"), limits=limits) as client,
    ):
        if type(client) is Caller:
            with (
                client.client.stream("GET", "/chunks/3"),
                pytest.raises(late, match=words) as caught,
                svcmesh.deadline(0.7),
            ):
                client.get("/echo")
        else:

            async def check() -> pytest.ExceptionInfo[svcmesh.DeadlineExceeded]:
                async with client.async_client.stream("GET", "/chunks/3"):  # type: ignore[attr-defined]
                    with pytest.raises(late, match=words) as caught, svcmesh.deadline(0.7):
                        await client.async_client.get("/echo")  # type: ignore[attr-defined]
                return caught

            caught = client.run(check())  # type: ignore[attr-defined]
    assert isinstance(caught.value, httpx.PoolTimeout if type(client) is Caller else httpx.TimeoutException)


def test_a_frozen_server_is_given_up_in_time(caller: Colour) -> None:
    """SIGSTOP leaves connections open and silent: the per-try timeout notices, and the answer comes from the other."""
    policy = Policy.standard().replace(per_try_timeout=0.7)
    with HttpServer("ice") as ice, HttpServer("fire") as fire:
        addresses = [ice.address, fire.address]
        with svcmesh.Mesh({"orders": addresses}, policy=policy) as mesh, caller(mesh.service("orders")) as client:
            for _ in range(6):
                client.get("/echo")
            member = mesh.service("orders").view.cluster.members[ice.address]
            before = member.started
            ice.freeze()
            while member.started == before:
                assert client.get("/echo").json()["server"] == "fire"
            ice.thaw()


def test_a_killed_server_costs_no_call(caller: Colour) -> None:
    """Connections that were kept to it are dead: idempotent calls notice nothing."""
    with HttpServer("mortal") as mortal, HttpServer("other") as other:
        addresses = [mortal.address, other.address]
        with svcmesh.Mesh({"orders": addresses}) as mesh, caller(mesh.service("orders")) as client:
            for _ in range(6):
                client.get("/echo")
            mortal.process.kill()
            assert {client.get("/echo").json()["server"] for _ in range(20)} == {"other"}


def test_a_restarted_server_is_not_blamed(caller: Colour) -> None:
    """Stale keep-alive connections are replaced inside the attempt: one attempt, no failure counted."""
    with HttpServer("phoenix") as phoenix, alone(phoenix.address) as mesh:
        service = mesh.service("orders")
        with caller(service) as client:
            response = client.get("/close")  # hangs up right after, without a word in its headers
            response = client.get("/echo")
        info = svcmesh.info(response)
        assert info is not None
        assert info.attempts == 1
        assert all(member.unsuccessful == 0 for member in service.view.cluster.members.values())


@pytest.mark.parametrize("policy", [Policy(), Policy(retry=Retry(max_attempts=1))], ids=["nothing on", "one attempt"])
def test_nothing_is_sent_twice_where_nothing_may_be_repeated(caller: Colour, servers: Any, policy: Policy) -> None:
    """A kept connection that breaks under a request is the caller's error then, as with httpx's own transport."""
    path = f"/drop/{caller.__name__}/{policy.retry is None}"
    with alone(servers[0].address, policy) as mesh, caller(mesh.service("orders")) as client:
        client.get("/echo")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(path)
    with httpx.Client(base_url=f"http://{servers[0].address}") as stock:
        stock.get("/echo")
        with pytest.raises(httpx.RemoteProtocolError):
            stock.get(f"{path}/stock")
    assert servers[0].count(path) == servers[0].count(f"{path}/stock") == 1


def test_a_dripping_server_does_not_outlast_the_attempt(caller: Colour, single: svcmesh.Service) -> None:
    """Each read is quick, the whole is not: httpx's timeouts never fire, the attempt's does."""
    service = single.with_policy(Policy.standard().replace(per_try_timeout=0.2, timeout=0.5))
    with caller(service) as client:
        began = time.monotonic()
        with pytest.raises(httpx.TimeoutException):
            client.get("/drip")
        assert time.monotonic() - began < 10
    assert in_flight(single) == 0


def test_the_ambient_deadline_bounds_a_call(caller: Colour, single: svcmesh.Service) -> None:
    """It ends as our DeadlineExceeded or httpx's timeout, and both names catch it."""
    with caller(single) as client:
        began = time.monotonic()
        with svcmesh.deadline(0.2), pytest.raises(httpx.TimeoutException):
            client.get("/slow/60")
        assert time.monotonic() - began < 10
        with svcmesh.deadline(0), pytest.raises(svcmesh.DeadlineExceeded) as caught:
            client.get("/echo")
    assert isinstance(caught.value, httpx.TimeoutException)
    assert str(caught.value.request.url) == "http://orders/echo"


def test_the_clients_own_timeouts_still_hold(caller: Colour, single: svcmesh.Service) -> None:
    service = single.with_policy(Policy())
    with caller(service, timeout=httpx.Timeout(5, read=0.1)) as client, pytest.raises(httpx.ReadTimeout):
        client.get("/slow/60")


def test_a_short_answer_is_in_hand_when_the_call_returns(caller: Colour, single: svcmesh.Service) -> None:
    """It was read inside the attempt, so that a cut one is retried, and can be streamed all the same, raw or not."""
    with caller(single) as client:
        assert client.raw("/status/200") == b"status 200"
        assert client.get("/status/200").text == "status 200"


def test_an_answer_without_a_length_streams(caller: Colour, single: svcmesh.Service) -> None:
    with caller(single) as client:
        assert client.raw("/chunks/4") == b"part 0;part 1;part 2;part 3;"
    assert in_flight(single) == 0


def test_a_cut_answer_without_a_length_is_an_error_and_counts(caller: Colour, single: svcmesh.Service) -> None:
    """It came after the attempt had ended, too late to retry: the caller gets httpx's error, the endpoint the blame."""
    with caller(single) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get("/cut-chunked")
    assert in_flight(single) == 0
    assert [member.unsuccessful for member in single.view.cluster.members.values()] == [1]


def test_beyond_the_buffer_nothing_is_read_ahead(caller: Colour, single: svcmesh.Service) -> None:
    """An answer longer than ``buffer_response`` surfaces its error instead of being repeated."""
    policy = Policy.standard().replace(retry=Retry(buffer_response=19))
    path = f"/first/cut/echo/{caller.__name__}/long"
    with caller(single.with_policy(policy)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get(path)
    assert in_flight(single) == 0


def test_head_and_empty_answers(caller: Colour, single: svcmesh.Service) -> None:
    """A HEAD has a length and no body; a 204 has neither."""
    with caller(single) as client:
        response = client.request("HEAD", "/status/200")
        assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "10")
        assert client.get("/echo").status_code == 200
    assert in_flight(single) == 0


def test_an_early_answer_is_an_answer(caller: Colour, single: svcmesh.Service) -> None:
    """A server that answers before it has read the body, and hangs up, has answered."""
    with caller(single) as client:
        assert client.request("PUT", "/early", content=b"x" * 2_000_000).text == "early"


def test_second_attempts_are_byte_identical(caller: Colour, servers: Any) -> None:
    """Bytes, JSON and files arrive the second time as they were sent the first time; the server compares digests."""
    bodies: list[dict[str, Any]] = [{"content": b"x" * 100_000}, {"json": {"a": [1, 2]}}, {"data": {"k": "v"}}]
    bodies.append({"files": {"f": ("name", io.BytesIO(b"file" * 5000))}})
    with alone(servers[0].address) as mesh, caller(mesh.service("orders")) as client:
        for number, body in enumerate(bodies):
            headers = {"Content-Type": "multipart/form-data; boundary=same"} if "files" in body else {}
            plain = client.request("PUT", "/echo", headers=headers, **body).json()
            path = f"/first/drop/echo/{caller.__name__}/{number}"
            retried = client.request("PUT", path, headers=headers, **body).json()
            assert (retried["length"], retried["digest"]) == (plain["length"], plain["digest"])
            assert servers[0].count(path) == 2


def test_a_touched_generator_is_not_repeated(caller: Colour, single: svcmesh.Service) -> None:
    """The rest of it would be sent as if it were the whole: the caller gets the error instead."""
    path = f"/first/drop/echo/{caller.__name__}/generator"

    def parts() -> Iterator[bytes]:
        yield b"one"

    async def async_parts() -> Any:
        yield b"one"

    content = parts() if caller is COLOURS["blocking"] else async_parts()
    with caller(single) as client, pytest.raises(httpx.RemoteProtocolError) as caught:
        client.request("PUT", path, content=content)
    info = svcmesh.info(caught.value)
    assert info is not None
    assert info.attempts == 1


def test_an_error_of_the_callers_generator_is_the_callers(caller: Colour, single: svcmesh.Service) -> None:
    """It comes through unchanged, is not repeated, and is not held against the endpoint."""

    def parts() -> Iterator[bytes]:
        yield b"one"
        raise KeyError("mine")

    async def async_parts() -> Any:
        yield b"one"
        raise KeyError("mine")

    content = parts() if caller is COLOURS["blocking"] else async_parts()
    with caller(single) as client, pytest.raises(KeyError, match="mine"):
        client.request("PUT", "/echo", content=content)
    assert in_flight(single) == 0
    assert single.view.picker.cells


@pytest.mark.parametrize("scope", ["call", "attempt"])
def test_injected_aborts_are_answers(caller: Colour, pair: svcmesh.Service, scope: Any) -> None:
    """An injected 503 looks like one, says that it is injected, and leaves nothing in flight."""
    policy = Policy(faults=Fault(abort=Abort(503), scope=scope))
    with caller(pair.with_policy(policy)) as client:
        response = client.get("/echo")
    assert response.status_code == 503
    assert "injected" in response.text
    assert in_flight(pair) == 0


@pytest.mark.parametrize(("method", "status"), [("GET", 204), ("GET", 304), ("HEAD", 503)])
@pytest.mark.parametrize("scope", ["call", "attempt"])
def test_injected_aborts_have_a_body_only_where_answers_have_one(
    caller: Colour, pair: svcmesh.Service, scope: Any, method: str, status: int
) -> None:
    policy = Policy(faults=Fault(abort=Abort(status), scope=scope))
    with caller(pair.with_policy(policy)) as client:
        response = client.request(method, "/echo")
    assert response.status_code == status
    assert response.content == b""
    assert not {"content-length", "content-type", "transfer-encoding"} & {*response.headers}
    assert in_flight(pair) == 0


def test_injected_aborts_of_one_endpoint_are_retried(caller: Colour, pair: svcmesh.Service) -> None:
    victim = pair.endpoints[0]
    fault = Fault(abort=Abort(503), scope="attempt", match=lambda target: target.endpoint == victim)
    with caller(pair.with_policy(Policy.standard().replace(faults=fault))) as client:
        assert {client.get("/echo").status_code for _ in range(10)} == {200}
    assert in_flight(pair) == 0


def test_injected_delays_are_waited_for(caller: Colour, single: svcmesh.Service) -> None:
    policy = Policy(faults=Fault(delay=Delay(0.1)))
    with caller(single.with_policy(policy)) as client:
        began = time.monotonic()
        assert client.get("/echo").status_code == 200
        assert time.monotonic() - began >= 0.1


def test_limits_hold_for_each_scheme_port_and_server_name(servers: Any) -> None:
    """What a connection speaks for: another port in the URL has connections of its own, on the same endpoint."""
    limits = httpx.Limits(max_connections=1)
    with alone(servers[0].address, Policy()) as mesh:
        client = mesh.service("orders").http_client(limits=limits, timeout=httpx.Timeout(5, pool=0.05))
        with client, client.stream("GET", "/chunks/3"):
            with pytest.raises(httpx.PoolTimeout):
                client.get("/echo")
            assert client.get(f"http://orders:{servers[0].port}/echo").status_code == 200


def test_the_pool_timeout_is_httpxs(caller: Colour, servers: Any) -> None:
    """With one connection per service, taken by a stream, the next call waits, for as long as ``pool`` says."""
    limits = httpx.Limits(max_connections=1)
    with alone(servers[0].address, Policy()) as mesh:
        service = mesh.service("orders")
        with caller(service, limits=limits, timeout=httpx.Timeout(5, pool=0.05)) as client:
            if caller is COLOURS["blocking"]:
                with client.client.stream("GET", "/chunks/3"), pytest.raises(httpx.PoolTimeout):
                    client.get("/echo")
            else:

                async def check() -> None:
                    async with client.async_client.stream("GET", "/chunks/3"):  # type: ignore[attr-defined]
                        with pytest.raises(httpx.PoolTimeout):
                            await client.async_client.get("/echo")  # type: ignore[attr-defined]

                client.run(check())  # type: ignore[attr-defined]
            assert client.get("/echo").status_code == 200
        assert in_flight(service) == 0


def test_an_answer_that_is_repeated_gives_its_connection_back_first(caller: Colour, servers: Any) -> None:
    """Else the next attempt waits for it in vain where the limit is reached; the last answer is the caller's."""
    policy = Policy(timeout=30, retry=Retry(buffer_response=0, budget=None), idempotent=True)
    with alone(servers[0].address, policy) as mesh:
        service = mesh.service("orders")
        limits = httpx.Limits(max_connections=1)
        with caller(service, limits=limits, timeout=httpx.Timeout(10, pool=0.05)) as client:
            response = client.get("/status/503")
        assert (response.status_code, response.text) == (503, "status 503")
        info = svcmesh.info(response)
        assert info is not None
        assert info.attempts == 3
        assert in_flight(service) == 0
