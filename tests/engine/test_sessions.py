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
from svcmesh.core.errors import CircuitOpen, NoEndpoints, SvcmeshError
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


def refused(found: Stage, address: str) -> SvcmeshError:
    """Return what a call of a strict session is refused with."""
    exchange = Exchange()
    exchange.key = found.view.key_of(request_of(address))
    error = drive(found.call(exchange), exchange, found.clock).error
    assert isinstance(error, SvcmeshError)
    return error


@pytest.mark.parametrize("how", ["gone", "ill", "ejected"])
def test_a_strict_session_is_told_that_the_endpoint_it_names_may_take_no_calls(how: str) -> None:
    """And not that no instance runs: others take calls, and one of them has an open breaker, which is beside it."""
    first, second, third = some(3)
    breaker = CircuitBreaker(consecutive=1, failure_rate=None)
    policy = STICKY.replace(stateful_session=STRICT, outlier_detection=OutlierDetection())
    if how != "ejected":
        policy = policy.replace(circuit_breaker=breaker)
    found = stage([first, second, third], policy=policy).listen("call.rejected")
    if how == "ejected":
        found.fail(first, 5)
    else:
        found.fail(second, 1)
        found.set(*([] if how == "gone" else [replace(first, health=ILL)]), second, third)

    error = refused(found, first.address)

    why = ": it is not among the 2 that there are" if how == "gone" else ""
    assert isinstance(error, NoEndpoints)
    assert f"service 'service' names the endpoint '{first.address}', which may take no calls{why}. A strict" in str(
        error
    )
    assert [event.reason for event in found.events] == ["no endpoints"]


def test_a_strict_session_whose_endpoint_has_an_open_breaker_is_told_until_when() -> None:
    first = some(3)[0]
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0, probes=1)
    policy = STICKY.replace(stateful_session=STRICT, circuit_breaker=breaker, outlier_detection=None)
    found = stage(some(3), policy=policy).listen("call.rejected")
    found.fail(first, 1)
    found.clock.advance(1.0)

    error = refused(found, first.address)

    assert isinstance(error, CircuitOpen)
    assert f"'{first.address}', whose circuit breaker is open, for 4 s more" in str(error)
    assert [(event.reason, event.retry_after) for event in found.events] == [("breaker", 4.0)]


def test_a_strict_session_is_told_that_there_is_nobody_where_that_is_so() -> None:
    policy = STICKY.replace(stateful_session=STRICT)
    assert "its discovery lists none" in str(refused(stage([], policy=policy), "10.0.0.1:80"))
    assert "none of its 2 endpoints may take" in str(refused(stage(some(2, ill=2), policy=policy), "10.0.0.1:80"))


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
