"""The two tables between gRPC codes and HTTP statuses, and the checks of either."""

from __future__ import annotations

import http

import grpc
import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.status import GRPC_TO_HTTP, code_name, http_status, http_to_grpc, is_plain


def test_every_grpc_code_has_an_http_status_in_the_order_of_the_numbers():
    assert list(GRPC_TO_HTTP) == [code.name for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (429, "UNAVAILABLE"),
        (431, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
        (200, "UNKNOWN"),
        (500, "UNKNOWN"),
        (418, "UNKNOWN"),
    ],
)
def test_http_to_grpc_is_the_protocols_table(status, code):
    assert http_to_grpc(status) == code


def test_codes_are_taken_by_name_and_as_grpcs_own():
    assert code_name("on", "UNAVAILABLE") == code_name("on", grpc.StatusCode.UNAVAILABLE) == "UNAVAILABLE"


@pytest.mark.parametrize("wrong", ["unavailable", "OK", "SOMETHING", 14, None, b"UNAVAILABLE"])
def test_what_is_no_error_code_is_refused(wrong):
    with pytest.raises(ConfigError, match="grpc must be a gRPC error code"):
        code_name("grpc", wrong)


def test_an_enumerated_status_becomes_a_plain_int():
    assert type(http_status("on", http.HTTPStatus.BAD_GATEWAY)) is int


@pytest.mark.parametrize("wrong", [99, 600, 503.0, True, "503"])
def test_what_is_no_status_is_refused(wrong):
    with pytest.raises(ConfigError, match="http must be an HTTP status from 100 to 599"):
        http_status("http", wrong)


def test_429_and_what_begins_with_5_are_failures_by_themselves():
    assert [status for status in (200, 404, 428, 429, 430, 499, 500, 503, 599) if not is_plain(status)] == [
        429,
        500,
        503,
        599,
    ]
