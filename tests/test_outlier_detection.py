"""Outlier detection where users meet it: over HTTP and around functions, with the events that say why."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import OutlierDetection, Policy
from svcmesh.balance import RoundRobin
from svcmesh.testing import FakeClock

FIVE = [f"10.0.0.{number}:80" for number in range(1, 6)]


class Orders:
    """Five endpoints, of which the first one answers as a test says.

    Attributes:
        status: of its answers. reasons: why it was ejected.
    """

    def __init__(self, outliers: OutlierDetection) -> None:
        self.clock = FakeClock(autojump=False)
        policy = Policy(outlier_detection=outliers, load_balancer=RoundRobin())
        self.mesh = svcmesh.Mesh({"orders": FIVE}, policy=policy, clock=self.clock, rng=random.Random(1))
        self.status = 200
        self.reasons: list[str] = []
        self.mesh.events.subscribe(self._note, "endpoint.ejected")
        transport = self.mesh.service("orders").http_transport(inner=httpx.MockTransport(self._answer))
        self.client = httpx.Client(transport=transport, base_url="http://orders")

    def _note(self, event: Any) -> None:
        assert event.endpoint.address == FIVE[0]
        self.reasons.append(event.reason)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        first = request.extensions["svcmesh.endpoint"].address == FIVE[0]
        return httpx.Response(self.status if first else 200)

    def get(self, times: int) -> None:
        """Send so many requests to each endpoint that takes any."""
        for _ in range(times * len(FIVE)):
            self.client.get("/")


@pytest.fixture
def made() -> Iterator[list[Orders]]:
    """What is put in here is closed at the end."""
    orders: list[Orders] = []
    yield orders
    for each in orders:
        each.client.close()
        each.mesh.close()


@pytest.mark.parametrize(
    ("outliers", "status", "reasons"),
    [
        (OutlierDetection(consecutive_5xx=5), 500, ["consecutive_5xx"]),
        (OutlierDetection(consecutive_5xx=5), 503, ["consecutive_gateway_failure"]),
        (OutlierDetection(consecutive_5xx=5), 429, []),
        (OutlierDetection(consecutive_5xx=5), 404, []),
        (OutlierDetection(), 500, []),
        (OutlierDetection.envoy(max_ejection_percent=20), 503, ["consecutive_5xx"]),
        (OutlierDetection.envoy(), 503, []),  # ten percent of five are nobody
    ],
)
def test_failures_in_a_row_over_http(
    made: list[Orders], outliers: OutlierDetection, status: int, reasons: list[str]
) -> None:
    made.append(Orders(outliers))
    made[0].status = status
    made[0].get(5)

    assert made[0].reasons == reasons


def test_success_rates_over_http(made: list[Orders]) -> None:
    """With the interval's end and the next call: by then the worker, or else that call, has looked back."""
    made.append(
        Orders(OutlierDetection.envoy(consecutive_5xx=None, success_rate_request_volume=10, max_ejection_percent=20))
    )
    made[0].get(5)
    made[0].status = 500
    made[0].get(5)
    assert made[0].reasons == []

    made[0].clock.advance(11.0)
    made[0].get(1)
    assert made[0].reasons == ["success_rate"]
    assert "ejected for" in made[0].mesh.explain("orders")


def test_errors_of_functions_count_where_the_policy_retries_them() -> None:
    """Of all others nobody knows whose fault they are."""
    for error, ejected in ((ConnectionResetError("cut"), True), (KeyError("own"), False)):
        policy = Policy(outlier_detection=OutlierDetection(consecutive_5xx=5))
        with svcmesh.Mesh({"orders": FIVE[:2]}, policy=policy) as mesh:

            @mesh.service("orders").guard
            def ask(error: Exception = error) -> None:
                raise error

            for _ in range(20):
                with pytest.raises(type(error)):
                    ask()
            found = [endpoint["ejected"] for endpoint in mesh.state()["services"]["orders"]["endpoints"]]
            assert any(found) == ejected
