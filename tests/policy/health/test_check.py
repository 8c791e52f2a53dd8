"""A health check says exactly one thing to ask, and its numbers are in range."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy import GrpcHealthCheck, HealthCheck, HttpHealthCheck, Policy, TcpHealthCheck

TCP = {"tcp_health_check": TcpHealthCheck()}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tcp_health_check": None}, "needs exactly one of http_health_check, grpc_health_check, tcp_health_check"),
        ({"grpc_health_check": GrpcHealthCheck()}, "not grpc_health_check and tcp_health_check"),
        ({"tcp_health_check": "10.0.0.1:80"}, "tcp_health_check must be a TcpHealthCheck or None, not '10.0.0.1:80'"),
        ({"tcp_health_check": None, "custom_health_check": 5}, "a function of an Endpoint"),
        ({"tcp_health_check": None, "custom_health_check": [].append.__self__}, "a function of an Endpoint"),
        ({"timeout": 0}, "timeout must be more than 0 seconds"),
        ({"timeout": None}, "timeout must be a number of seconds, not None"),
        ({"interval": -1}, "interval must be more than 0"),
        ({"no_traffic_interval": 0}, "no_traffic_interval must be more than 0"),
        ({"unhealthy_interval": 0}, "unhealthy_interval must be more than 0"),
        ({"healthy_edge_interval": float("nan")}, "healthy_edge_interval must be a finite number"),
        ({"unhealthy_threshold": 0}, "unhealthy_threshold must be a whole number of at least 1"),
        ({"healthy_threshold": 1.5}, "healthy_threshold must be a whole number"),
        ({"initial_jitter": -1}, "initial_jitter must be at least 0"),
        ({"interval_jitter_percent": 101}, "interval_jitter_percent must be from 0 to 100"),
        ({"reuse_connection": "no"}, "reuse_connection must be True or False"),
        ({"alt_port": 65536}, "alt_port must be a port from 1 to 65535"),
        ({"alt_port": 0}, "alt_port must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_field(fields, message) -> None:
    with pytest.raises(ConfigError) as refused:
        HealthCheck(**{**TCP, **fields})

    assert message in str(refused.value)


def test_a_policy_takes_a_health_check_and_nothing_else() -> None:
    check = HealthCheck(**TCP)

    assert Policy(health_check=check).health_check is check
    assert Policy.standard().health_check is None
    with pytest.raises(ConfigError, match="health_check must be a HealthCheck or None"):
        Policy(health_check=TcpHealthCheck())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"http_health_check": HttpHealthCheck("/healthz?token=secret")}, "GET /healthz"),
        ({"grpc_health_check": GrpcHealthCheck()}, "gRPC health"),
        ({"grpc_health_check": GrpcHealthCheck("orders")}, "gRPC health orders"),
        (TCP, "TCP"),
        ({"custom_health_check": print}, "a function"),
    ],
)
def test_it_says_in_a_few_words_what_it_asks(fields, words) -> None:
    """And no query, which may hold a secret."""
    assert HealthCheck(**fields).asks == words
