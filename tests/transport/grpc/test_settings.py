"""How endpoint channels are set up: targets, authority, and whose options win."""

from __future__ import annotations

import pytest

from svcmesh.transport.grpc.settings import Settings, authority, target


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", "ipv4:127.0.0.1:50051"),
        ("[::1]:50051", "ipv6:[::1]:50051"),
        ("[fe80::1%eth0]:1", "ipv6:[fe80::1%25eth0]:1"),
        ("greeter.local:50051", "dns:greeter.local:50051"),
        ("unix:/run/greeter.sock", "unix:/run/greeter.sock"),
    ],
)
def test_an_ip_address_involves_no_resolver(address: str, expected: str) -> None:
    """Only a name is left to gRPC's DNS."""
    assert target(address) == expected


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("greeter", "greeter"),
        ("consul://127.0.0.1:8500/greeter?tag=v2", "greeter"),
        ("dns:///greeter.local:50051", "greeter.local:50051"),
        ("static://10.0.0.1:80,10.0.0.2:80", "10.0.0.1:80"),
        ("k8s://shop/greeter:grpc", "greeter:grpc"),
        ("two words", "two%20words"),
    ],
)
def test_the_authority_is_the_name_of_the_service(service: str, expected: str) -> None:
    """Of a URI it is the part that names the service."""
    assert authority(service) == expected


def test_the_service_name_is_the_authority_although_an_address_is_dialled() -> None:
    """TLS verifies it, servers see it."""
    assert ("grpc.default_authority", "greeter") in Settings("greeter").arguments


@pytest.mark.parametrize("option", ["grpc.default_authority", "grpc.ssl_target_name_override"])
def test_a_configured_name_takes_the_place_of_the_services(option: str) -> None:
    """Were both set to different names, one would be sent and the other verified."""
    arguments = Settings("greeter", options=((option, "other"),)).arguments

    assert [value for name, value in arguments if name in {option, "grpc.default_authority"}] == ["other"]


def test_options_of_the_user_win() -> None:
    """Each is passed once, with the user's value; what the user left open is ours."""
    arguments = Settings("greeter", options=(("grpc.max_reconnect_backoff_ms", 7), ("mine", "x"))).arguments

    assert dict(arguments)["grpc.max_reconnect_backoff_ms"] == 7
    assert dict(arguments)["mine"] == "x"
    assert dict(arguments)["grpc.use_local_subchannel_pool"] == 1
    assert len(dict(arguments)) == len(arguments)
