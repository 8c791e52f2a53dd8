"""What an endpoint can be asked is checked when it is written down, and secrets of it are shown nowhere."""

from __future__ import annotations

import pickle

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy import GrpcHealthCheck, HttpHealthCheck, TcpHealthCheck


@pytest.mark.parametrize(
    ("expected", "well", "ill"),
    [
        ((200,), (200,), (199, 201, 204)),
        ((range(200, 300), 404), (200, 299, 404), (300, 403)),
        (((200, 202), (301, 303)), (200, 201, 301, 302), (202, 303)),
        (range(200, 300), (200, 299), (300,)),
    ],
)
def test_ranges_of_statuses_have_no_end(expected, well, ill) -> None:
    """As Envoy's: 200 to 300 is 200 to 299."""
    check = HttpHealthCheck("/", expected_statuses=expected)

    assert [check.expects(status) for status in well] == [True] * len(well)
    assert [check.expects(status) for status in ill] == [False] * len(ill)


def test_no_status_is_tried_again_unless_it_is_named() -> None:
    assert not HttpHealthCheck("/").retries(503)
    assert HttpHealthCheck("/", retriable_statuses=(503,)).retries(503)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "healthz"}, "must begin with '/'"),
        ({"path": "/a b"}, "visible ASCII"),
        ({"path": "/\r\nx: y"}, "visible ASCII"),
        ({"path": ""}, "visible ASCII"),
        ({"path": None}, "visible ASCII"),
        ({"method": "G ET"}, "a method of HTTP"),
        ({"method": "CONNECT"}, "asks for a tunnel"),
        ({"host": ""}, "a host name or None"),
        ({"expected_statuses": ()}, "nothing could pass"),
        ({"expected_statuses": (99,)}, "99 is neither a status"),
        ({"expected_statuses": (600,)}, "600 is neither a status"),
        ({"expected_statuses": ((300, 200),)}, "(300, 200) is neither"),
        ({"expected_statuses": (True,)}, "True is neither"),
        ({"expected_statuses": ("200",)}, "'200' is neither"),
        ({"expected_statuses": 200}, "statuses such as (200, 204), not 200"),
        ({"retriable_statuses": (range(200, 300, 2),)}, "is neither a status"),
        ({"request_headers_to_add": {"x y": "1"}}, "'x y' is no name of a header"),
        ({"request_headers_to_add": {"Host": "a"}}, "Host is not yours to set"),
        ({"request_headers_to_add": 5}, "a mapping, or pairs, of strings"),
        ({"tls": True}, "an ssl.SSLContext or None, not True"),
    ],
)
def test_what_no_request_can_be_is_refused(fields, message) -> None:
    with pytest.raises(ConfigError) as refused:
        HttpHealthCheck(**{"path": "/", **fields})

    assert message in str(refused.value)


def test_headers_are_shown_neither_in_its_text_nor_in_errors() -> None:
    check = HttpHealthCheck("/", request_headers_to_add={"authorization": "Bearer hunter2"})

    assert "hunter2" not in repr(check)
    with pytest.raises(ConfigError) as refused:
        HttpHealthCheck("/", request_headers_to_add={"authorization": "hunter2\n"})
    assert "hunter2" not in str(refused.value)
    assert "authorization" in str(refused.value)


def test_equal_ones_are_equal_however_they_were_written() -> None:
    """Views share checks that are equal."""
    one = HttpHealthCheck("/", expected_statuses=[200], request_headers_to_add={"a": "b"})
    other = HttpHealthCheck("/", expected_statuses=((200, 201),), request_headers_to_add=[("a", "b")])

    assert one == other == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)


def test_what_tcp_waits_for_is_bytes_or_several() -> None:
    assert TcpHealthCheck(b"PING\r\n", b"+PONG").receive == (b"+PONG",)
    assert TcpHealthCheck(b"", [b"a", b"b", b""]).receive == (b"a", b"b")
    for fields in ({"send": "PING"}, {"receive": "PONG"}, {"receive": ["PONG"]}, {"receive": 5}, {"tls": "yes"}):
        with pytest.raises(ConfigError, match="TcpHealthCheck|tls"):
            TcpHealthCheck(**fields)


def test_metadata_of_grpc_is_lower_case_and_its_names_are_checked() -> None:
    assert GrpcHealthCheck("orders", initial_metadata={"X-Team": "a"}).initial_metadata == (("x-team", "a"),)
    for fields in ({"service_name": None}, {"authority": "a b"}, {"initial_metadata": {"a b": "c"}}):
        with pytest.raises(ConfigError):
            GrpcHealthCheck(**fields)
