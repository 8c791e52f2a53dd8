"""Whom a call of a session goes to: the endpoint that it names, as long as that may be called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svcmesh.balance import (
    Header,
    HeaderBasedSessionState,
    LocalityWeighted,
    Maglev,
    RoundRobin,
    SlowStart,
    StatefulSession,
    hash_key,
)
from svcmesh.balance.stateful_session import written
from svcmesh.core.endpoint import Endpoint
from svcmesh.policy import CircuitBreaker, OutlierDetection, Policy, Retry
from tests.balance.test_hash_on import Request
from tests.engine.hosts import DEGRADED, HERE, ILL, NEAR, some, stage
from tests.engine.scripted import Exchange, Stage, drive, lost

SESSIONS = StatefulSession(HeaderBasedSessionState("x-session"))
STRICT = replace(SESSIONS, strict=True)
STICKY = Policy(load_balancer=RoundRobin(), stateful_session=SESSIONS)


def request_of(endpoint: Endpoint | str, *headers: tuple[str, bytes]) -> Request:
    address = endpoint if isinstance(endpoint, str) else endpoint.address
    return Request(("x-session", written(address).encode()), *headers)


def called(found: Stage, request: Request, exclude: tuple[Endpoint, ...] = ()) -> set[Endpoint | None]:
    """Return whom calls of this request go to, the plain ones and those of the machine."""
    key, picks = found.view.key_of(request), set()
    for _ in range(20):
        plain = None if exclude else found.view.enter(found.clock.now(), key)
        if plain is not None:
            plain.finished += 1
        cell = found.view.choose_from(key, exclude, ())
        picks |= {cell and cell.endpoint} | (set() if exclude else {plain and plain.endpoint})
    return picks


def test_a_session_goes_where_it_began() -> None:
    found = stage(some(5), policy=STICKY)
    for endpoint in some(5):
        assert called(found, request_of(endpoint)) == {endpoint}
    assert called(found, Request()) == set(some(5))


@pytest.mark.parametrize("address", ["gone:80", "", "10.0.0.1"])
def test_a_session_of_nobody_here_is_a_new_one(address: str) -> None:
    assert called(stage(some(3), policy=STICKY), request_of(address)) == set(some(3))


def test_a_session_survives_everything_but_the_loss_of_its_endpoint() -> None:
    """A degraded endpoint, and one of another priority that no new call goes to, keep theirs."""
    hosts = [*some(4, degraded=1), *some(2, priority=1)]
    found = stage(hosts, policy=STICKY)
    kept = [next(e for e in hosts if e.health is DEGRADED), hosts[-1]]
    for endpoint in kept:
        assert called(found, request_of(endpoint)) == {endpoint}
    assert not called(found, Request()) & set(kept)


@pytest.mark.parametrize("how", ["ill", "off", "ejected", "open"])
def test_an_endpoint_that_may_not_be_called_loses_its_sessions(how: str) -> None:
    first, *others = some(5)
    breaker = CircuitBreaker(consecutive=1, failure_rate=None) if how == "open" else None
    policy = STICKY.replace(outlier_detection=OutlierDetection(), circuit_breaker=breaker)
    for session in (SESSIONS, STRICT):
        found = stage([first, *others], policy=policy.replace(stateful_session=session))
        if how == "ill":
            found.set(replace(first, health=ILL), *others)
        elif how == "off":
            found.set(replace(first, weight=0), *others)
        else:
            found.fail(first, 1 if how == "open" else 5)
        assert called(found, request_of(first)) == ({None} if session.strict else set(others))


def test_a_retry_leaves_an_endpoint_that_has_failed() -> None:
    first, *others = some(3)
    assert called(stage(some(3), policy=STICKY), request_of(first), (first,)) == set(others)
    strict = stage(some(3), policy=STICKY.replace(stateful_session=STRICT))
    assert called(strict, request_of(first), (replace(first, weight=2),)) == {None}


@pytest.mark.parametrize(("session", "met"), [(SESSIONS, 2), (STRICT, 1)])
def test_a_call_whose_endpoint_fails_is_repeated_elsewhere_and_a_strict_one_there(
    session: StatefulSession, met: int
) -> None:
    policy = STICKY.replace(stateful_session=session, retry=Retry(wait=lambda _: 0.0, budget=None), idempotent=True)
    found = stage(some(3), policy=policy)
    exchange = Exchange(lost())
    exchange.key = found.view.key_of(request_of(some(3)[2]))
    call = found.call(exchange)
    outcome = drive(call, exchange, found.clock)

    assert outcome.error is None
    assert (len(call.endpoints), len(set(call.endpoints))) == (2, met)
    assert call.endpoints[0] == some(3)[2]


def test_a_key_decides_where_the_session_does_not() -> None:
    policy = Policy(load_balancer=Maglev(table_size=251), hash_on=Header("x-user"), stateful_session=SESSIONS)
    found = stage(some(5), policy=policy)
    owner = found.view.picker.choose_from(hash_key("7"), ())
    assert owner is not None
    other = next(endpoint for endpoint in some(5) if endpoint != owner.endpoint)

    assert called(found, request_of("gone:80", ("x-user", b"7"))) == {owner.endpoint}
    assert called(found, request_of(other, ("x-user", b"7"))) == {other}


def test_sessions_go_across_localities_and_slow_starts() -> None:
    weighted = STICKY.replace(locality=LocalityWeighted({HERE: 1, NEAR: 1}), slow_start=SlowStart(60.0))
    hosts = [*some(2, zone=HERE), *some(2, zone=NEAR)]
    found = stage(hosts, policy=weighted)
    found.clock.advance(30.0)
    found.set(*hosts, *some(3, zone=NEAR)[2:])
    for endpoint in hosts:
        assert called(found, request_of(endpoint)) == {endpoint}
