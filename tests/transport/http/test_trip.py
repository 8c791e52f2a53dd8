"""What an attempt promises its sender: until when, and with which headers."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.core.clock import SYSTEM
from svcmesh.transport.http.deadline import HEADER
from svcmesh.transport.http.trip import Trip


def trip(policy: Policy, *, started: float, deadline: float, headers: dict[str, str] | None = None) -> Trip:
    """Return an attempt that is the last of its call."""
    view = svcmesh.Mesh({"orders": ["127.0.0.1:1"]}, policy=policy).service("orders").view
    request = httpx.Request("GET", "http://orders/", headers=headers)
    rest: dict[str, Any] = {"repeat": lambda: True, "buffer": -1, "member": None, "final": True}
    return Trip(view, request, started=started, until=deadline, deadline=deadline, **rest)


def test_a_body_ends_with_the_call_whichever_attempt_brings_it() -> None:
    """An attempt that started late does not get the call's whole time once more."""
    now = SYSTEM.now()
    assert trip(Policy(timeout=10), started=now + 8, deadline=now + 10).body_until() == now + 10


def test_a_body_has_no_end_where_none_was_set() -> None:
    """The standard timeout is one for headers; an ambient deadline holds for everything."""
    now = SYSTEM.now()
    assert trip(Policy(), started=now, deadline=math.inf).body_until() is None
    assert trip(Policy.standard(), started=now, deadline=now + 10).body_until() is None
    with svcmesh.deadline(2):
        until = trip(Policy.standard(), started=now, deadline=now + 10).body_until()
    assert until == pytest.approx(now + 2, abs=1)


def test_the_headers_say_how_long_the_answer_is_wanted() -> None:
    """Rounded down, and only here: the caller's own request stays as it was written."""
    now = SYSTEM.now()
    found = trip(Policy(timeout=10), started=now, deadline=now + 5)
    (value,) = (value for name, value in found.headers() if name.decode() == HEADER)
    assert 4000 <= int(value) <= 5000
    assert HEADER not in found.request.headers


def test_what_the_caller_says_of_it_is_left_alone() -> None:
    now = SYSTEM.now()
    found = trip(Policy(timeout=10), started=now, deadline=now + 5, headers={HEADER: "7"})
    assert [value for name, value in found.headers() if name.lower().decode() == HEADER] == [b"7"]
