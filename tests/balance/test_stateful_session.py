"""Sticky sessions: how a cookie and a header spell an endpoint, and what is no session."""

from __future__ import annotations

import base64
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Policy
from svcmesh.balance import CookieBasedSessionState, HeaderBasedSessionState, StatefulSession
from svcmesh.balance.stateful_session import Pinned, written
from tests.balance.test_hash_on import Request

ADDRESS = "10.0.0.1:8080"
VALUE = b"MTAuMC4wLjE6ODA4MA=="
ENVOYS = b"Cg0xMC4wLjAuMTo4MDgw"  # a message whose field 1 is the address, as Envoy sets it
COOKIE, HEADER = CookieBasedSessionState("sid"), HeaderBasedSessionState("X-Session")


def test_a_header_has_the_base64_of_the_address():
    """As Envoy writes it; gRPC (A55) writes cookies so."""
    assert written(ADDRESS).encode() == VALUE == base64.b64encode(ADDRESS.encode())
    assert HEADER.address_of(Request(("x-session", VALUE))) == ADDRESS
    assert COOKIE.address_of(Request(("cookie", b"a=b; sid=" + VALUE))) == ADDRESS


@pytest.mark.parametrize("value", [ENVOYS, b'"' + ENVOYS + b'"', base64.b64encode(b"\n\r10.0.0.1:8080\x10\xb9`")])
def test_a_cookie_of_envoys_is_read(value):
    """With its end and without; quoted or not."""
    assert COOKIE.address_of(Request(("cookie", b"a=b; sid=" + value))) == ADDRESS


@pytest.mark.parametrize(
    ("state", "header"),
    [
        (COOKIE, ("set-cookie", f'sid="{ENVOYS.decode()}"; HttpOnly')),
        (
            CookieBasedSessionState("s", "/v1", 60),
            ("set-cookie", f's="{ENVOYS.decode()}"; Max-Age=60; Path=/v1; HttpOnly'),
        ),
        (CookieBasedSessionState("s", ttl=0.2), ("set-cookie", f's="{ENVOYS.decode()}"; Max-Age=1; HttpOnly')),
        (HEADER, ("x-session", VALUE.decode())),
    ],
)
def test_answers_say_who_gave_them(state, header):
    assert state.header(ADDRESS) == header


PATHS = ["/", "/foo", "/bar", "/foo/", "/foo/bar", "/foo#bar", "/foo?bar", "/foobar"]


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("", PATHS),
        ("/", PATHS),
        ("/foo/", ["/foo/", "/foo/bar"]),
        ("/foo", ["/foo", "/foo/", "/foo/bar", "/foo#bar", "/foo?bar"]),
    ],
)
def test_a_cookie_counts_at_its_path_and_below(path, covered):
    """Envoy, cookie_test.cc, SessionStatePathMatchTest."""
    state = CookieBasedSessionState("sid", path)
    for asked in PATHS:
        request = Request((":path", asked.encode()), ("cookie", b"sid=" + ENVOYS))
        assert state.covers(request) == (asked in covered)
        assert state.address_of(request) == (ADDRESS if asked in covered else None)
    assert HEADER.covers(Request())


@pytest.mark.parametrize(
    "value",
    [b"", b"!", b"MTAuMC4wLjE6ODA4MA", b"MTAuMC4w LjE6ODA4MA==", "é".encode()]
    + [
        base64.b64encode(text) for text in (b"\xff", b"hello", b"10.0.0.1", b"\n\x0c10.0.0.1:8080", b"\n\x010.0.0.1:80")
    ],
)
def test_what_cannot_be_read_is_no_session(value):
    """So a strict one begins anew, too."""
    for state, header in ((COOKIE, ("cookie", b"sid=" + value)), (HEADER, ("x-session", value))):
        assert state.address_of(Request(header)) is None
        assert StatefulSession(state, strict=True).key_of(Request(header), None) is None
        assert state.address_of(Request()) is None


@settings(max_examples=50, deadline=None)
@given(st.binary())
def test_no_value_makes_it_raise(value):
    found = HEADER.address_of(Request(("x-session", value)))
    assert found is None or written(found).encode() == value


def test_a_key_may_stand_beside_a_session():
    assert (Pinned.to(ADDRESS, 7), Pinned.to(ADDRESS, 7).key, Pinned.to(ADDRESS, None).key) == (7, 7, None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CookieBasedSessionState(""),
        lambda: CookieBasedSessionState("a=b"),
        lambda: CookieBasedSessionState("a; b"),
        lambda: CookieBasedSessionState("sid", path="v1"),
        lambda: CookieBasedSessionState("sid", path="/; Secure"),
        lambda: CookieBasedSessionState("sid", path="/\r\n"),
        lambda: CookieBasedSessionState("sid", ttl=-1),
        lambda: HeaderBasedSessionState("x session"),
        lambda: HeaderBasedSessionState(None),
        lambda: StatefulSession("sid"),
        lambda: StatefulSession(COOKIE, strict="no"),
        lambda: Policy(stateful_session=COOKIE),
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="name|path|ttl|session_state|strict|stateful_session"):
        wrong()


def test_it_goes_into_a_policy_as_a_value():
    policy = Policy(stateful_session=StatefulSession(COOKIE))
    assert policy == pickle.loads(pickle.dumps(policy)) == Policy(stateful_session=StatefulSession(COOKIE))
    assert policy != Policy(stateful_session=StatefulSession(COOKIE, strict=True))
