"""Blocking calls with one response, against real servers."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import grpc
import pytest

import svcmesh
from svcmesh.core.deadline import deadline
from svcmesh.engine.state import describe
from svcmesh.observe.explain import explain
from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.fault import Abort, Fault
from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, blackhole_port, refused_port
from tests.transport.grpc.kit import PATIENCE, eventually, in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


@pytest.fixture
def stub(service: Service) -> Iterator[pb_grpc.ProbeStub]:
    with service.grpc_channel() as channel:
        yield pb_grpc.ProbeStub(channel)


def fails(code: str, times: int, **more: str) -> list[tuple[str, str]]:
    return [("x-fail", f"{code}:{times}"), ("x-id", uuid.uuid4().hex), *more.items()]


def test_a_call_is_answered_by_one_of_the_servers(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Responses come through, from both servers over time, and each attempt is counted in and out."""
    answers = [stub.Unary(ping(f"hello {i}")) for i in range(40)]

    assert [answer.text for answer in answers] == [f"hello {i}" for i in range(40)]
    assert {answer.server for answer in answers} == {"a", "b"}
    assert (started(service), in_flight(service)) == (40, 0)


def test_with_call_returns_the_stock_call(stub: pb_grpc.ProbeStub) -> None:
    """Beside the response there is the call with its metadata."""
    response, call = stub.Unary.with_call(ping(), metadata=[("x-early", "1")])

    assert call.code() is grpc.StatusCode.OK
    assert dict(call.trailing_metadata())["x-server"] == response.server
    assert dict(call.initial_metadata())["x-server"] == response.server


def test_the_call_that_comes_with_a_response_tells_how_many_attempts_it_took(
    service: Service, stub: pb_grpc.ProbeStub
) -> None:
    """Responses are messages, which nobody can write on."""
    _, call = stub.Read.with_call(ping(), metadata=fails("UNAVAILABLE", 1))

    told = svcmesh.info(call)
    assert told is not None
    assert told.attempts == started(service)


def test_metadata_from_an_iterator_reach_every_attempt(stub: pb_grpc.ProbeStub, grpc_servers: Servers) -> None:
    """An iterator runs dry at the first attempt; the second one must send the same."""
    answer = stub.Read(ping(), metadata=iter([*fails("UNAVAILABLE", 1), ("x-mine", "kept")]))

    server = next(server for server in grpc_servers if server.name == answer.server)
    assert server.stats()["metadata"]["x-mine"] == "kept"


@pytest.mark.parametrize("method", ["Read", "Put"])
def test_what_the_proto_calls_idempotent_is_repeated(service: Service, stub: pb_grpc.ProbeStub, method: str) -> None:
    """NO_SIDE_EFFECTS and IDEMPOTENT are enough for a second attempt after UNAVAILABLE, at the other server."""
    answer = getattr(stub, method)(ping("again"), metadata=fails("UNAVAILABLE", 1))

    assert answer.text == "again"
    assert started(service) >= 2


def test_what_nobody_calls_idempotent_is_not_repeated(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """UNAVAILABLE from a server may mean that it was executed: the error comes through, with all its details."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Unary(ping(), metadata=fails("UNAVAILABLE", 1))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "asked to fail: 1"
    assert dict(caught.value.trailing_metadata())["x-server"] in {"a", "b"}
    assert started(service) == 1
    told = svcmesh.info(caught.value)
    assert told is not None
    assert told.attempts == 1


def test_the_policy_may_call_a_method_idempotent(grpc_servers: Servers) -> None:
    """`Policy.idempotent` names methods and whole services."""
    policy = Policy.standard().replace(idempotent={"/svcmesh.test.Probe/*"})
    with service_over([s.address for s in grpc_servers], policy) as service, service.grpc_channel() as channel:
        assert pb_grpc.ProbeStub(channel).Unary(ping("yes"), metadata=fails("UNAVAILABLE", 1)).text == "yes"


@pytest.mark.parametrize("code", ["INTERNAL", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"])
def test_other_codes_come_through_at_once(service: Service, stub: pb_grpc.ProbeStub, code: str) -> None:
    """They are the server's answer, and the endpoint is not held to blame."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Read(ping(), metadata=fails(code, -1))

    assert caught.value.code() is grpc.StatusCode[code]
    assert started(service) == 1
    assert all(member.unsuccessful == 0 for member in service.view.cluster.members.values())


def test_a_server_that_asks_not_to_be_asked_again_is_obeyed(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """A negative grpc-retry-pushback-ms ends the call although it is idempotent."""
    with pytest.raises(grpc.RpcError):
        stub.Read(ping(), metadata=[*fails("UNAVAILABLE", 1), ("x-pushback", "-1")])

    assert started(service) == 1


def test_an_unsent_call_goes_elsewhere_whatever_its_method(grpc_servers: Servers) -> None:
    """One dead port among three: no call fails, though nothing is idempotent."""
    with refused_port() as dead:
        addresses = [server.address for server in grpc_servers] + [f"127.0.0.1:{dead}"]
        with service_over(addresses) as service, service.grpc_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            answers = [stub.Unary(ping(str(i))).text for i in range(60)]

            assert answers == [str(i) for i in range(60)]
            assert service.view.cluster.members[f"127.0.0.1:{dead}"].started >= 1


def test_a_blackholed_endpoint_costs_no_more_than_the_connect_timeout(grpc_servers: Servers) -> None:
    """Connecting to it is given up, and the call goes elsewhere, surely unsent: after its time it would not."""
    policy = Policy.standard().replace(per_try_timeout=None)
    with (
        blackhole_port() as hole,
        service_over([grpc_servers[0].address, f"127.0.0.1:{hole}"], policy) as service,
        service.grpc_channel() as channel,
    ):
        stub, member = pb_grpc.ProbeStub(channel), service.view.cluster.members[f"127.0.0.1:{hole}"]
        while not member.started:
            stub.Unary(ping())


def test_per_try_timeout_moves_on_to_another_server(grpc_servers: Servers) -> None:
    """A frozen server holds an idempotent call no longer than one try."""
    policy = Policy.standard().replace(per_try_timeout=1.0)
    with (
        GrpcServer("frozen") as frozen,
        service_over([frozen.address, grpc_servers[0].address], policy) as service,
        service.grpc_channel() as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(4):
            stub.Read(ping())
        member = service.view.cluster.members[frozen.address]
        before = member.started
        frozen.freeze()
        try:
            while member.started == before:
                assert stub.Read(ping()).server == "a"
        finally:
            frozen.thaw()


def test_sigkill_during_calls_fails_no_idempotent_one(grpc_servers: Servers) -> None:
    """The connection breaks under running calls; they are repeated at the other server."""
    with (
        GrpcServer("victim") as victim,
        service_over([victim.address, grpc_servers[0].address]) as service,
        service.grpc_channel() as channel,
    ):
        stub, failed, answers = pb_grpc.ProbeStub(channel), [], []

        def call() -> None:
            for _ in range(15):
                try:
                    answers.append(stub.Read(ping(), metadata=[("x-delay", "0.02")]).server)
                except grpc.RpcError as error:
                    failed.append(error)

        threads = [threading.Thread(target=call) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: "victim" in answers, "the victim was never asked")
        victim.kill()
        for thread in threads:
            thread.join()
        victim.start()  # the context manager ends it

        assert failed == []
        assert len(answers) == 90


def test_traffic_is_back_long_before_what_kept_it_away_is_over() -> None:
    """Neither gRPC's back-off, nor an ejection, nor the breaker that fast refusals open waits for its whole time."""
    minutes = 300.0
    policy = Policy.standard().replace(
        circuit_breaker=CircuitBreaker(open_for=minutes), outlier_detection=OutlierDetection(base_ejection_time=minutes)
    )
    options = [("grpc.initial_reconnect_backoff_ms", 600_000), ("grpc.max_reconnect_backoff_ms", 600_000)]
    with (
        GrpcServer("phoenix") as phoenix,
        service_over([phoenix.address], policy) as service,
        service.grpc_channel(options=options) as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        stub.Unary(ping())
        phoenix.kill()
        for _ in range(30):
            with pytest.raises(grpc.RpcError):
                stub.Unary(ping(), timeout=PATIENCE)
        assert "circuit breaker open" in explain(describe(service.view))
        phoenix.start()

        def answered() -> bool:
            try:
                return bool(stub.Unary(ping(), timeout=PATIENCE).server)
            except grpc.RpcError:
                return False

        eventually(answered, "no traffic")


def test_the_timeout_of_the_call_reaches_the_server_and_ends_it(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The stock error comes at the time asked for, and is not repeated."""
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Read(ping(), timeout=0.3, metadata=[("x-hang", "1")])

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.25 < time.monotonic() - began < PATIENCE
    assert started(service) <= 1  # none when this machine takes longer to begin


def test_a_longer_timeout_of_the_call_wins_over_the_policys(grpc_servers: Servers) -> None:
    """What the caller says explicitly stands, also against a shorter policy."""
    with service_over([grpc_servers[0].address], Policy(timeout=0.2)) as service, service.grpc_channel() as channel:
        assert pb_grpc.ProbeStub(channel).Unary(ping(), timeout=PATIENCE, metadata=[("x-delay", "0.5")]).server == "a"


def test_the_ambient_deadline_shortens_any_timeout(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """A call inside `deadline(…)` learns of it, whatever it asks for itself."""
    began = time.monotonic()
    with deadline(0.3), pytest.raises(grpc.RpcError) as caught:
        stub.Unary(ping(), timeout=30, metadata=[("x-hang", "1")])

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 15


def test_a_spent_deadline_sends_nothing(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The refusal is ours and gRPC's at once."""
    with deadline(0.0), pytest.raises(svcmesh.DeadlineExceeded) as caught:
        stub.Unary(ping())

    assert isinstance(caught.value, grpc.RpcError)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert started(service) == 0


def test_no_endpoint_is_an_rpc_error_that_says_why() -> None:
    """Callers who know only gRPC see UNAVAILABLE, others `NoEndpoints`."""
    mesh = svcmesh.Mesh(discovery={"empty": []})
    with mesh, mesh.service("empty").grpc_channel() as channel:
        with pytest.raises(svcmesh.NoEndpoints, match="'empty' has no endpoint") as caught:
            pb_grpc.ProbeStub(channel).Unary(ping())
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_wait_for_ready_waits_for_a_server_to_come_up() -> None:
    """The call is held until somebody listens, then answered."""
    with GrpcServer("late") as late:
        late.kill()
        with service_over([late.address]) as service, service.grpc_channel() as channel:
            timer = threading.Timer(0.5, late.start)
            timer.start()
            try:
                answer = pb_grpc.ProbeStub(channel).Unary(ping(), wait_for_ready=True, timeout=2 * PATIENCE)
            finally:
                timer.join()
            assert answer.server == "late"


def test_wait_for_ready_ends_with_the_deadline() -> None:
    """Nobody comes: DEADLINE_EXCEEDED, as on a stock channel."""
    with refused_port() as dead, service_over([f"127.0.0.1:{dead}"]) as service, service.grpc_channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            pb_grpc.ProbeStub(channel).Unary(ping(), wait_for_ready=True, timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_injected_abort_looks_like_the_status_it_stands_for(grpc_servers: Servers) -> None:
    """A fault on the call is seen by the caller; nothing is sent."""
    policy = Policy(faults=Fault(abort=Abort("RESOURCE_EXHAUSTED")))
    with service_over([grpc_servers[0].address], policy) as service, service.grpc_channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            pb_grpc.ProbeStub(channel).Unary(ping())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert started(service) == 0


def test_a_request_that_cannot_be_serialized_is_nobodys_fault(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """INTERNAL as the stock channel says it, once, blaming no endpoint."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Read("no message")

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "Exception serializing request!"
    assert started(service) == 1


def test_closing_the_channel_ends_running_calls_and_refuses_new_ones(grpc_servers: Servers, service: Service) -> None:
    """CANCELLED "Channel closed!" for the one, ValueError for the others; twice is fine."""
    channel = service.grpc_channel()
    stub = pb_grpc.ProbeStub(channel)
    before = sum(server.count("Read") for server in grpc_servers)

    def close() -> None:
        eventually(lambda: sum(server.count("Read") for server in grpc_servers) > before, "it did not arrive")
        channel.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Read(ping(), metadata=[("x-hang", "1")])
    closing.join()

    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert caught.value.details() == "Channel closed!"
    for call in (stub.Unary, stub.Unary.with_call, stub.Unary.future, stub.ServerStream):
        with pytest.raises(ValueError, match="Cannot invoke RPC on closed channel!"):
            call(ping())
    channel.close()


def test_closing_one_channel_leaves_others_alone(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """A service, and its other channels, go on."""
    with service.grpc_channel() as other:
        pb_grpc.ProbeStub(other).Unary(ping())

    assert stub.Unary(ping("still")).text == "still"


def test_client_streaming_goes_elsewhere_with_everything_sent_before(grpc_servers: Servers) -> None:
    """The iterator has been read when the first endpoint refuses; the second one gets all messages all the same."""
    with (
        refused_port() as dead,
        service_over([grpc_servers[0].address, f"127.0.0.1:{dead}"]) as service,
        service.grpc_channel() as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(10):
            answer = stub.ClientStream(ping(text) for text in "abc")
            assert (answer.text, answer.number) == ("a,b,c", 3)


def test_a_request_iterator_that_raises_ends_the_call(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """UNKNOWN, as on the stock channel, and the call is not repeated."""

    def requests() -> Iterator[object]:
        yield ping("a")
        raise RuntimeError("the caller's own")

    with pytest.raises(grpc.RpcError) as caught:
        stub.ClientStream(requests())

    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == "Exception iterating requests!"
    assert started(service) == 1
