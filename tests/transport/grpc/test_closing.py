"""Closing a channel while calls wait, for an endpoint or for their next attempt: they end as stock calls do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import tenacity

from svcmesh import Mesh, Policy, Retry, info
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


REFUSED: dict[str, Callable[[Any], Any]] = {
    "call": lambda stub: stub.Unary(ping()),
    "timed": lambda stub: stub.Unary(ping(), timeout=1),
    "with call": lambda stub: stub.Unary.with_call(ping()),
    "future": lambda stub: stub.Unary.future(ping()),
    "stream": lambda stub: stub.ServerStream(ping()),
    "requests": lambda stub: stub.ClientStream(iter([ping()])),
    "both": lambda stub: stub.BidiStream(iter([ping()])),
}


@pytest.mark.parametrize("way", REFUSED)
def test_a_call_on_a_closed_channel_is_none(mesh: Mesh, way: str) -> None:
    """Nothing has begun: no endpoint was asked, none is blamed, and no retry can be paid from it."""
    service = mesh.service("dead")
    channel = service.grpc_channel()
    channel.close()
    before = mesh.state()["services"]["dead"]

    with pytest.raises(ValueError, match="closed channel") as caught:
        REFUSED[way](pb_grpc.ProbeStub(channel))

    assert info(caught.value) is None
    after = mesh.state()["services"]["dead"]
    assert (after["in_flight"], after["endpoints"]) == (0, before["endpoints"])
    assert service.view.budget.calls == 0


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
