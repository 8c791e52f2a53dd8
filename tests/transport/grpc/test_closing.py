"""Closing a channel while calls wait, for an endpoint or for their next attempt: they end as stock calls do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import tenacity

from svcmesh import Mesh, Policy, Retry
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.transport.grpc.kit import PATIENCE, eventually, in_flight, ping

DEAD = "127.0.0.1:1"
LONG = 600.0

WAYS: dict[str, Callable[[Any], Any]] = {
    "call": lambda stub: stub.Unary(ping(), wait_for_ready=True),
    "future": lambda stub: stub.Unary.future(ping(), wait_for_ready=True).result(),
    "stream": lambda stub: list(stub.ServerStream(ping(), wait_for_ready=True)),
    "requests": lambda stub: stub.ClientStream(iter([ping()]), wait_for_ready=True),
}


class Ended:
    """A call on a thread of its own, and what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> Any:
        """Return what it raised, in time."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call goes on"
        return self.error

    def _run(self) -> None:
        try:
            self._call()
        except grpc.RpcError as error:
            self.error = error


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    again = Retry(wait=tenacity.wait_fixed(LONG), budget=None)
    with Mesh({"nobody": [], "dead": [DEAD]}, policy=Policy(retry=again, idempotent=True)) as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_waits_for_an_endpoint_ends(mesh: Mesh, way: str) -> None:
    channel = mesh.service("nobody").grpc_channel()
    cluster: Any = channel._view.cluster  # type: ignore[attr-defined]
    ended = Ended(lambda: WAYS[way](pb_grpc.ProbeStub(channel)))
    eventually(lambda: bool(cluster._waiters), "it does not wait")

    channel.close()

    error = ended.wait()
    assert (error.code(), error.details()) == (grpc.StatusCode.CANCELLED, "Channel closed!")
    assert in_flight(mesh.service("nobody")) == 0


@pytest.mark.parametrize("way", ["call", "future", "stream"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_call_between_two_attempts_ends(mesh: Mesh, way: str, whole: bool) -> None:
    """With its channel as one that is cancelled, with its mesh as it ended last."""
    channel = mesh.service("dead").grpc_channel()
    waits = threading.Event()
    mesh.events.subscribe(lambda _: waits.set(), "retry.scheduled")
    call = {**WAYS, "call": lambda stub: stub.Unary(ping()), "future": lambda stub: stub.Unary.future(ping()).result()}
    call["stream"] = lambda stub: list(stub.ServerStream(ping()))
    ended = Ended(lambda: call[way](pb_grpc.ProbeStub(channel)))
    assert waits.wait(PATIENCE)

    (mesh if whole else channel).close()

    assert ended.wait().code() is (grpc.StatusCode.UNAVAILABLE if whole else grpc.StatusCode.CANCELLED)
    channel.close()
