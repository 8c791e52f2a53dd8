"""Errors of etcd, by what follows from them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.discovery.etcd import errors
from svcmesh.discovery.etcd.errors import EtcdError, error_of
from svcmesh.discovery.pace import SLOWLY


def told(code, text):
    """Return what etcd 3.5 writes."""
    return json.dumps({"error": text, "code": code, "message": text}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, told(14, "etcdserver: no leader"), errors.Broken),
        (503, told(14, "etcdserver: request timed out"), errors.Broken),
        (429, told(8, "etcdserver: too many requests"), errors.Broken),
        (400, told(9, "etcdserver: rpc not supported for learner"), errors.Broken),
        (401, told(16, "etcdserver: invalid auth token"), errors.TokenLost),
        (400, told(3, "etcdserver: user name is empty"), errors.TokenLost),
        (400, told(3, "etcdserver: revision of auth store is old"), errors.TokenLost),
        (400, told(9, "etcdserver: authentication is not enabled"), errors.NoUsers),
        (400, told(3, "etcdserver: authentication failed, invalid user ID or password"), errors.Denied),
        (403, told(7, "etcdserver: permission denied"), errors.Denied),
        (404, told(5, "etcdserver: requested lease not found"), errors.Unknown),
        (400, told(3, "etcdserver: key is not provided"), errors.Refused),
        (404, json.dumps({"code": 5, "message": "requested lease not found", "details": []}).encode(), errors.Unknown),
        (404, b"Not Found", errors.Refused),
        (302, b"", errors.Refused),
        (403, b"<html>", errors.Denied),
        (400, b"CommonName of client sending a request against gateway will be ignored", errors.Denied),
        (502, b"bad gateway", errors.Broken),
        (429, b"", errors.Broken),
        (400, b'{"error": 7}', errors.Refused),
    ],
)
def test_what_is_said_decides_and_else_the_status(status, body, kind):
    assert type(error_of(status, body, asked="/v3/kv/range at http://h:1")) is kind


def test_an_error_says_what_was_asked_and_what_to_do():
    assert str(error_of(404, b"Not Found", asked="/v3/watch at http://h:1")) == (
        "/v3/watch at http://h:1 answered 404: Not Found; is it etcd 3.4 or newer, with its gRPC gateway on?"
    )
    assert "ETCDCTL_USER" in str(error_of(403, told(7, "etcdserver: permission denied"), asked="x"))


def test_what_only_people_can_mend_is_asked_again_slowly():
    assert error_of(403, told(7, "etcdserver: permission denied"), asked="x").retry_after == SLOWLY
    assert error_of(503, told(14, "etcdserver: no leader"), asked="x").retry_after is None


@given(st.integers(100, 599), st.binary(max_size=100))
def test_anything_is_an_error_of_etcds(status, body):
    error = error_of(status, body, asked="x")

    assert isinstance(error, EtcdError)
    assert len(str(error)) < 1000
