"""What the same answers to health checks make of an endpoint: an Envoy and svcmesh are asked after each of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import svcmesh
from svcmesh import HealthCheck, HttpHealthCheck, Policy
from tests.servers.envoy_proxy import cluster
from tests.servers.xds.envoy import Envoy

FIRST = ["200", "500", "503", "nothing"]
"""A 503 is one that counts towards the threshold, like no answer; a 500 is believed at once."""

THEN = [
    "200",
    "200",
    "503",
    "503",
    "200",
    "nothing",
    "503",
    "nothing",
    "200",
    "500",
    "200",
    "200",
    "500",
    "nothing",
    "200",
]


class Checked:
    """A server that is asked whether it is well, and says so when the test does."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(60)
        self._asked: socket.socket | None = None
        self.address = "{}:{}".format(*self._listening.getsockname())

    def wait(self) -> None:
        """Wait for the next check; what the one before it has changed has then changed."""
        self._asked, _ = self._listening.accept()
        self._asked.settimeout(60)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._asked.recv(4096)

    def answer(self, what: str) -> None:
        """Answer with a status, or with nothing."""
        assert self._asked is not None
        if what != "nothing":
            self._asked.sendall(f"HTTP/1.1 {what} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self._asked.close()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()
        if self._asked is not None:
            self._asked.close()


THEIRS = {
    "interval": "0.01s",
    "no_traffic_interval": "0.01s",
    "timeout": "600s",
    "unhealthy_threshold": 3,
    "healthy_threshold": 2,
    "reuse_connection": False,
    "http_health_check": {"path": "/well", "retriable_statuses": [{"start": 503, "end": 504}]},
}
OURS = HealthCheck(
    http_health_check=HttpHealthCheck("/well", retriable_statuses=[503]),
    interval=0.01,
    no_traffic_interval=0.01,
    timeout=600.0,
    unhealthy_threshold=3,
    healthy_threshold=2,
    reuse_connection=False,
)


@pytest.fixture(scope="module")
def asked() -> Iterator[dict[str, Checked]]:
    """One server for each answer that may come first."""
    found = {first: Checked() for first in FIRST}
    yield found
    for each in found.values():
        each.close()


@pytest.fixture(scope="module")
def envoy(asked: dict[str, Checked], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    clusters = [cluster(first, [server.address], health_checks=[THEIRS]) for first, server in asked.items()]
    with Envoy(tmp_path_factory.mktemp("envoy"), clusters=clusters) as found:
        yield found


@pytest.mark.parametrize("first", FIRST)
def test_every_answer_makes_the_same_of_an_endpoint(envoy: Envoy, asked: dict[str, Checked], first: str) -> None:
    """The first one decides alone; after it there are thresholds, and answers that are believed at once."""
    theirs, ours, states = asked[first], Checked(), []
    try:
        with svcmesh.Mesh({"orders": [ours.address]}, policy=Policy(health_check=OURS)) as mesh:
            assert mesh.service("orders").endpoints
            for number, answer in enumerate([first, *THEN]):
                theirs.wait()
                ours.wait()
                if number:  # else nothing is known yet, and Envoy calls nobody of whom that is so
                    said = envoy.hosts(first)[theirs.address]["health_status"]
                    [found] = mesh.state()["services"]["orders"]["endpoints"]
                    well = found["check"]["passed"]
                    states.append(well)
                    assert well == ("failed_active_health_check" not in said), (number, answer)
                theirs.answer(answer)
                ours.answer(answer)
    finally:
        ours.close()
    assert states.count(True) == (9 if first == "200" else 7)
