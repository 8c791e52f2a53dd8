"""What the API server says is wrong, as an error that says what to do and how long to wait."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.discovery.kubernetes.errors import Gone, KubernetesError, error_in, error_of
from svcmesh.discovery.pace import SLOWLY
from tests.servers.kubernetes.objects import EXPIRED_PAGE, UNAUTHORIZED, forbidden, status


def of(code, body=b"", **more):
    return error_of(code, body if isinstance(body, bytes) else json.dumps(body).encode(), asked="list x", **more)


@pytest.mark.parametrize(
    ("error", "told", "wait"),
    [
        (of(401, UNAUTHORIZED), "list x answered 401: Unauthorized; the token is unknown or expired", SLOWLY),
        (of(403, forbidden("watch", "prod")), "verbs list and watch on endpointslices in the API group", SLOWLY),
        (of(403, forbidden("watch", "prod")), 'cannot watch resource "endpointslices"', SLOWLY),
        (of(404, b"404 page not found\n"), "404: 404 page not found; is that the address of a Kubernetes API", SLOWLY),
        (of(429, b"Too many requests\n", retry_after="3"), "429: Too many requests", 3.0),
        (of(429, status(429, "TooManyRequests", "x", retryAfterSeconds=7)), "429: x", 7.0),
        (of(500, status(500, "", "etcdserver: leader changed")), "500: etcdserver: leader changed", None),
        (of(503, b""), "list x answered 503", None),
        (of(302, b""), "redirects are not followed", SLOWLY),
        (of(400, status(400, "BadRequest", "a\nb")), "400: a b", SLOWLY),
        (of(500, b"x" * 5000), "500: " + "x" * 300, None),
    ],
)
def test_it_is_told_what_to_do_and_when(error, told, wait):
    assert told in str(error)
    assert len(str(error)) < 700
    assert error.retry_after == wait


def test_what_is_too_old_is_known_by_its_kind_in_both_places():
    assert isinstance(of(410, EXPIRED_PAGE), Gone)
    assert isinstance(error_in(EXPIRED_PAGE, asked="watch x"), Gone)
    assert not isinstance(error_in(status(500, "", "x"), asked="watch x"), Gone)
    assert (of(410).status, error_in(None, asked="x").status) == (410, 500)


@given(st.integers(300, 599), st.binary(max_size=50) | st.dictionaries(st.just("message"), st.integers()))
def test_any_body_is_an_error(code, body):
    error = of(code, body)
    assert isinstance(error, KubernetesError)
    assert error.status == code


@pytest.mark.parametrize("seconds", [-1, 0, True, "3", 10**30, None, [3]])
def test_a_wait_that_cannot_be_is_none_and_a_long_one_is_bounded(seconds):
    assert (of(429, status(429, "", "x", retryAfterSeconds=seconds)).retry_after or 0) <= 86_400
