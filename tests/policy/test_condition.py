"""What `on` takes, and which outcomes meet it."""

from __future__ import annotations

import grpc
import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.condition import DEFAULT_ON, check_on, compile_on


def status(code: int | str, **fields: object) -> Outcome:
    return Outcome(Kind.STATUS, reason=str(code), **fields)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Kind.UNSENT, reason="connect-failure"),
        Outcome(Kind.UNSENT, reason="refused-stream"),
        Outcome(Kind.LOST, reason="reset"),
        Outcome(Kind.TIMEOUT, reason="per-try-timeout"),
        status(502),
        status(503),
        status(504),
        status("UNAVAILABLE"),
        status(429, retry_after=1.0),
        status(429, retry_after=0.0),
    ],
    ids=lambda outcome: outcome.reason,
)
def test_the_default_covers_the_failures_of_the_network(outcome):
    assert compile_on(DEFAULT_ON)(outcome)


@pytest.mark.parametrize(
    "outcome",
    [
        status(500),
        status(429),
        status(404),
        status("INTERNAL"),
        status("RESOURCE_EXHAUSTED"),
        Outcome(Kind.ERROR, ValueError("no"), reason="ValueError"),
        Outcome(Kind.LOST),
    ],
    ids=str,
)
def test_the_default_leaves_the_rest_alone(outcome):
    assert not compile_on(DEFAULT_ON)(outcome)


def test_an_exception_class_covers_its_subclasses():
    matches = compile_on(check_on([ConnectionError]))

    assert matches(Outcome(Kind.ERROR, ConnectionResetError()))
    assert not matches(Outcome(Kind.ERROR, ValueError()))


def test_a_plain_429_can_be_asked_for_too():
    assert compile_on(check_on([429]))(status(429))


def test_codes_of_grpc_itself_are_taken():
    assert check_on({grpc.StatusCode.ABORTED}) == {"ABORTED"}


@pytest.mark.parametrize(
    "wrong",
    [
        ["rset"],
        ["unavailable"],
        ["OK"],
        [True],
        [42],
        [503.0],
        [None],
        [KeyboardInterrupt],
        [BaseException],
        [int],
        "reset",
        ConnectionError,
        503,
        None,
    ],
    ids=repr,
)
def test_what_is_no_condition_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^on "):
        check_on(wrong)


def test_an_unknown_word_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown condition 'connect'; known are connect-failure, .*reset"):
        check_on(["connect"])
