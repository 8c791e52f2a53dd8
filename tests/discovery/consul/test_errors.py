"""Statuses and texts of Consul become kinds of errors, by what follows from them."""

from __future__ import annotations

import pytest

from svcmesh.discovery.consul.errors import Broken, Busy, Denied, Refused, Strange, Unknown, error_of
from svcmesh.discovery.pace import SLOWLY


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "Invalid index", Refused),
        (401, "", Denied),
        (403, "ACL not found", Denied),
        (403, "Permission denied: token with AccessorID 'x' lacks permission 'service:write' on \"web\"", Denied),
        (404, 'Unknown check ID "service:web"', Unknown),
        (404, 'Unknown service ID "web"', Unknown),
        (405, "method GET not allowed", Refused),
        (429, "rate limit exceeded, try again later or against a different server", Busy),
        (500, "No cluster leader", Broken),
        (500, "rpc error making call: EOF", Broken),
        (500, 'CheckID "service:web" does not have associated TTL', Unknown),
        (500, 'Unknown check "service:web"', Unknown),
        (502, "<html>", Broken),
        (503, "rate limit exceeded for operation that can only be performed by the leader", Busy),
        (301, "", Strange),
        (204, "", Refused),
    ],
)
def test_the_kind_follows_from_status_and_text(status, text, kind):
    error = error_of(status, text.encode(), asked="GET /v1/x at http://h:1")

    assert type(error) is kind
    assert error.status == status
    assert str(error).startswith(f"GET /v1/x at http://h:1 answered {status}")
    assert text[:200] in str(error)


def test_people_have_to_mend_rights_so_it_is_asked_slowly():
    assert error_of(403, b"ACL not found", asked="x").retry_after == SLOWLY
    assert error_of(500, b"No cluster leader", asked="x").retry_after is None
    assert error_of(429, b"", asked="x", retry_after="3").retry_after == 3.0
    assert error_of(429, b"", asked="x", retry_after="soon").retry_after is None


def test_a_redirect_says_what_it_may_mean():
    assert "is that the address of Consul's API?" in str(error_of(302, b"", asked="x"))


def test_what_is_shown_is_one_short_line():
    told = str(error_of(500, b"a\nb\r\n\x00\xff" + b"x" * 100_000, asked="x"))

    assert "\n" not in told
    assert len(told) < 300


def test_what_every_consul_has_is_missing_only_where_there_is_none():
    error = error_of(404, b"no backend", asked="GET /v1/health/service/x at http://h:1", is_there=True)

    assert type(error) is Strange
    assert "is that the address of Consul's API?" in str(error)
