"""What ends of attempts mean, and that the grpcio in use still says it in the words we know."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, REFUSED_STREAM, RESET, Kind, Outcome
from svcmesh.transport.grpc.channels import sync_channel
from svcmesh.transport.grpc.errors import GrpcAborted
from svcmesh.transport.grpc.outcome import CHANNEL_CLOSED, ENDPOINT_GONE, classify, pushback
from svcmesh.transport.grpc.settings import Settings
from svcmesh.transport.grpc.unsent import never_connected
from tests.servers.grpc_process import GrpcServer, blackhole_port, refused_port
from tests.transport.grpc.kit import PATIENCE, eventually

OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.min_reconnect_backoff_ms", 300)]
REFUSE, CANCEL, INTERNAL = 7, 8, 2


def outcome_of(address: str, credentials: grpc.ChannelCredentials | None = None, **call: Any) -> Outcome:
    """Return what is made of the end of a call to ``address``."""
    settings = Settings.of("probe", credentials, OPTIONS, None)
    endpoint = sync_channel(settings, address)
    try:
        with pytest.raises(grpc.RpcError) as caught:
            endpoint.channel.unary_unary("/svcmesh.test.Probe/Unary")(b"", **{"timeout": PATIENCE, **call})
        return classify(caught.value, unconnected=lambda details: never_connected(details, address, endpoint.state()))
    finally:
        endpoint.close()


@contextmanager
def h2_server(answer: Callable[[h2.connection.H2Connection, int], None], *, hang_up: bool = False) -> Iterator[str]:
    """Yield the address of a server that speaks HTTP/2 and answers each request by ``answer``."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                talk(client)

    def talk(client: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        while data := client.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    answer(connection, event.stream_id)
                    client.sendall(connection.data_to_send())
                    if hang_up:
                        client.shutdown(socket.SHUT_WR)  # closing could reset it before the client has read all
                        while client.recv(65536):
                            pass
                        return
            client.sendall(connection.data_to_send())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# -- pinned to the library ---------------------------------------------------------------------------------------------


def test_a_refused_connection_is_surely_unsent() -> None:
    """And the endpoint's fault."""
    with refused_port() as port:
        outcome = outcome_of(f"127.0.0.1:{port}")

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.UNSENT, CONNECT_FAILURE, True)


def test_a_connection_that_nobody_answers_is_surely_unsent() -> None:
    """When the connect timeout comes before the call's."""
    with blackhole_port() as port:
        outcome = outcome_of(f"127.0.0.1:{port}")

    assert (outcome.kind, outcome.reason) == (Kind.UNSENT, CONNECT_FAILURE)


@pytest.mark.parametrize("address", ["unix:/nonexistent/socket", "nonexistent.invalid:1"])
def test_an_address_that_leads_nowhere_is_surely_unsent(address: str) -> None:
    """A socket file that is missing, a name that does not resolve."""
    assert outcome_of(address).kind is Kind.UNSENT


def test_plain_text_where_tls_was_expected_is_surely_unsent(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """The handshake fails before any request."""
    assert outcome_of(grpc_servers[0].address, grpc.ssl_channel_credentials()).kind is Kind.UNSENT


def test_a_refused_stream_is_not_surely_unsent() -> None:
    """HTTP/2 promises that it was not processed, but the same words may come from a server that has processed it."""
    with h2_server(lambda connection, stream: connection.reset_stream(stream, REFUSE)) as address:
        outcome = outcome_of(address)

    assert (outcome.kind, outcome.reason) == (Kind.LOST, REFUSED_STREAM)


def test_a_server_that_goes_away_in_good_order_is_not_to_blame() -> None:
    """The stream is above the last one of its GOAWAY."""
    with h2_server(lambda c, _: c.close_connection(0, last_stream_id=0), hang_up=True) as address:
        outcome = outcome_of(address)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.LOST, REFUSED_STREAM, False)


def test_a_stream_that_a_goaway_covers_may_have_been_processed() -> None:
    """The connection ends before the answer: nobody knows."""
    with h2_server(lambda c, s: c.close_connection(0, last_stream_id=s), hang_up=True) as address:
        outcome = outcome_of(address)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.LOST, RESET, True)


@pytest.mark.parametrize(("code", "name"), [(CANCEL, "CANCELLED"), (INTERNAL, "INTERNAL")])
def test_other_resets_are_the_servers_answer(code: int, name: str) -> None:
    """A server cancels or fails by resetting, too."""
    with h2_server(lambda connection, stream: connection.reset_stream(stream, code)) as address:
        outcome = outcome_of(address)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, name, False)


def test_a_server_that_dies_with_the_call_may_have_processed_it() -> None:
    """The connection breaks in the middle."""
    with GrpcServer("victim") as victim:

        def kill() -> None:
            eventually(lambda: victim.count("Unary") > 0, "it did not arrive")
            victim.process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = outcome_of(victim.address, metadata=[("x-hang", "1")])
        killer.join()

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.LOST, RESET, True)


def test_our_time_limit_is_a_timeout(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """The endpoint took too long."""
    outcome = outcome_of(grpc_servers[0].address, timeout=0.5, metadata=[("x-hang", "1")])

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.TIMEOUT, PER_TRY_TIMEOUT, True)


@pytest.mark.parametrize("details", ["Deadline Exceeded", "Stream removed (Deadline Exceeded)"])
def test_both_ways_in_which_grpc_says_so_are_known(details: str) -> None:
    """Which one it is depends on what notices first, the call or its stream."""
    empty = grpc.aio.Metadata()
    outcome = classify(grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, empty, empty, details=details))

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.TIMEOUT, PER_TRY_TIMEOUT, True)


def test_the_servers_own_deadline_exceeded_is_a_status(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """It came with the server's metadata."""
    outcome = outcome_of(grpc_servers[0].address, metadata=[("x-fail", "DEADLINE_EXCEEDED:-1")])

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, "DEADLINE_EXCEEDED", False)


LIE = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(("metadata", "known"), [((("x-server", "b"),), True), ((), False)])
def test_words_alone_never_pass_for_a_refused_connection(metadata: tuple[tuple[str, str], ...], known: bool) -> None:
    """They count neither with metadata of an answer, nor where nothing is known of the channel."""
    trailing = grpc.aio.Metadata(*metadata)
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, details=LIE)

    outcome = classify(error, unconnected=lambda _: True) if known else classify(error)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, "UNAVAILABLE", True)


@pytest.mark.parametrize(("why", "blames"), [("socket: Too many open files", False), ("Connection refused", True)])
def test_a_host_that_cannot_connect_to_anybody_blames_nobody(why: str, blames: bool) -> None:
    """Unsent it is all the same. Out of files for real, gRPC may end the process."""
    empty = grpc.aio.Metadata()
    details = f"failed to connect to all addresses; last error: INTERNAL: ipv4:127.0.0.1:1: {why}"
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details=details)

    outcome = classify(error, unconnected=lambda _: True)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.UNSENT, CONNECT_FAILURE, blames)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_unknown_words_count_as_maybe_sent() -> None:
    """UNAVAILABLE that says nothing we know is a status, which is repeated only if idempotent."""
    empty = grpc.aio.Metadata()
    outcome = classify(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details="new words"))

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, "UNAVAILABLE", True)


def test_a_channel_closed_under_us_means_another_endpoint() -> None:
    """The endpoint left between pick and call; no other ValueError means that."""
    gone, other = classify(ValueError(CHANNEL_CLOSED)), classify(ValueError("something else"))

    assert (gone.kind, gone.reason, gone.blames) == (Kind.UNSENT, ENDPOINT_GONE, False)
    assert other.kind is Kind.ERROR


def test_a_bare_rpc_error_is_somebodys_own() -> None:
    """It has no code to judge by."""
    assert classify(grpc.RpcError()).kind is Kind.ERROR


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("1500", 1.5), ("+5", 0.005), (" 5", 0.005), ("05", 0.005), ("-1", -1.0), ("5.0", -1.0), ("", -1.0)],
)
def test_pushback_is_read_as_grpc_reads_it(text: str, seconds: float) -> None:
    """Milliseconds as decimal text; what is no such number means "do not retry"."""
    assert pushback((("grpc-retry-pushback-ms", text),)) == seconds


@given(st.text())
def test_any_pushback_is_a_wait_or_a_refusal(text: str) -> None:
    """Nothing that a server sends can raise or make us wait beyond 32 bits of milliseconds."""
    seconds = pushback((("other", "1"), ("grpc-retry-pushback-ms", text)))

    assert seconds is not None
    assert seconds == -1.0 or 0 <= seconds < 2**31 / 1000


def test_without_the_trailer_there_is_no_pushback() -> None:
    """None, which is something else than zero."""
    assert pushback(()) is None
    assert pushback(None) is None


@pytest.mark.parametrize("details", ["Getting metadata from plugin failed with error: dry", "Illegal metadata"])
def test_a_token_that_cannot_be_had_or_sent_is_no_endpoints_fault(details: str) -> None:
    """These are gRPC's words for call credentials, before anybody is asked."""
    outcome = classify(GrpcAborted(grpc.StatusCode.UNAVAILABLE, details))

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.LOST, "UNAVAILABLE", False)
