"""Each way to ask has its asker, and what it needs is loaded with it and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy import GrpcHealthCheck, HealthCheck, HttpHealthCheck, TcpHealthCheck
from svcmesh.transport.health.askers import asker


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ({"http_health_check": HttpHealthCheck("/")}, "HttpAsker"),
        ({"grpc_health_check": GrpcHealthCheck()}, "GrpcAsker"),
        ({"tcp_health_check": TcpHealthCheck()}, "TcpAsker"),
        ({"custom_health_check": print}, "FunctionAsker"),
    ],
)
def test_each_kind_has_its_own(kind, name: str) -> None:
    made = asker(HealthCheck(**kind), "orders")

    assert type(made).__name__ == name
    made.close()


def test_without_grpcio_a_check_by_grpc_says_so_when_the_service_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "svcmesh.transport.health.grpc", raising=False)

    with pytest.raises(ConfigError, match="grpc_health_check needs grpcio"):
        asker(HealthCheck(grpc_health_check=GrpcHealthCheck()), "orders")


def test_checks_by_http_load_neither_httpx_nor_grpc() -> None:
    program = """
import sys, threading, svcmesh
asked = threading.Event()
check = svcmesh.HealthCheck(http_health_check=svcmesh.HttpHealthCheck("/healthz"))
mesh = svcmesh.Mesh({"orders": ["127.0.0.1:1"]}, policy=svcmesh.Policy(health_check=check))
mesh.events.subscribe(lambda _: asked.set(), "health_check.finished")
mesh.service("orders").endpoints
assert asked.wait(60)
mesh.close()
assert not {"grpc", "httpx", "httpcore"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)
