"""Faults: whom they hit, how often, and what they look like to callers of each protocol."""

from __future__ import annotations

import dataclasses
import random

import grpc
import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.policy.fault import Abort, Delay, Fault, FaultTarget, Injection, draw

HERE = Endpoint("10.0.0.1:80")
CALL = FaultTarget("greeter", method="/greet.Greeter/SayHello")
ATTEMPT = FaultTarget("greeter", HERE)


class Numbers:
    """Draws these numbers, and no more."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


class TestAbort:
    @pytest.mark.parametrize(
        ("abort", "http", "code"),
        [
            (Abort(503), 503, "UNAVAILABLE"),
            (Abort(404), 404, "UNIMPLEMENTED"),
            (Abort(200), 200, "UNKNOWN"),
            (Abort("UNAVAILABLE"), 503, "UNAVAILABLE"),
            (Abort(grpc.StatusCode.NOT_FOUND), 404, "NOT_FOUND"),
            (Abort(grpc="CANCELLED"), 499, "CANCELLED"),
            (Abort(http=429), 429, "UNAVAILABLE"),
            (Abort(http=418, grpc="DATA_LOSS"), 418, "DATA_LOSS"),
            (Abort(503, grpc="ABORTED"), 503, "ABORTED"),
        ],
    )
    def test_each_protocol_sees_its_own_status(self, abort, http, code):
        assert (abort.http_status, abort.grpc_code) == (http, code)

    def test_the_status_is_always_there_to_be_shown(self):
        assert Abort(grpc=grpc.StatusCode.ABORTED).status == "ABORTED"
        assert Abort(http=502).status == 502

    def test_a_copy_with_another_share_is_possible(self):
        assert dataclasses.replace(Abort(grpc="ABORTED"), percent=5).grpc_code == "ABORTED"

    @pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
    def test_every_error_code_is_taken(self, code):
        assert Abort(code) == Abort(code.name)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({}, "status"),
            ({"status": 99}, "status"),
            ({"status": 600}, "status"),
            ({"status": True}, "status"),
            ({"status": "OK"}, "status"),
            ({"status": "unavailable"}, "status"),
            ({"status": 5.0}, "status"),
            ({"grpc": 14}, "grpc"),
            ({"http": 199}, "http"),
            ({"http": "503"}, "http"),
            ({"status": 503, "percent": 101}, "percent"),
            ({"status": 503, "percent": -1}, "percent"),
            ({"status": 503, "percent": float("nan")}, "percent"),
            ({"status": 503, "percent": "50"}, "percent"),
        ],
    )
    def test_a_wrong_argument_is_named(self, arguments, named):
        with pytest.raises(ConfigError, match=f"^{named} "):
            Abort(**arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": None}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": 1, "percent": 200}, "percent"),
    ],
)
def test_a_wrong_argument_of_a_delay_is_named(arguments, named):
    with pytest.raises(ConfigError, match=f"^{named} "):
        Delay(**arguments)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "abort or delay"),
        ({"abort": 503}, "abort"),
        ({"delay": 1.0}, "delay"),
        ({"abort": Abort(503), "percent": 100.1}, "percent"),
        ({"abort": Abort(503), "percent": float("nan")}, "percent"),
        ({"abort": Abort(503), "scope": "stream"}, "scope"),
        ({"abort": Abort(503), "scope": "attempt", "match": "nowhere"}, ""),
        ({"abort": Abort(503), "scope": "attempt", "match": 80}, "match"),
        ({"abort": Abort(503), "scope": "attempt", "match": FaultTarget}, "match"),
        ({"abort": Abort(503), "match": HERE}, "match"),
        ({"abort": Abort(503), "match": "10.0.0.1:80"}, "match"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=f"^{named}"):
        Fault(**settings)


class TestDraw:
    def test_nothing_armed_is_nothing_injected(self):
        assert draw((), "call", CALL, Numbers()) is None

    def test_a_certain_fault_needs_no_chance(self):
        fault = Fault(abort=Abort(503), delay=Delay(0.2))

        assert draw([fault], "call", CALL, Numbers()) == Injection(0.2, Abort(503))

    def test_percent_zero_never_hits(self):
        assert draw([Fault(abort=Abort(503), percent=0)], "call", CALL, Numbers()) is None

    def test_delay_and_abort_are_drawn_apart_the_delay_first(self):
        fault = Fault(abort=Abort(503, percent=30), delay=Delay(0.2, percent=50))

        assert draw([fault], "call", CALL, Numbers(0.49, 0.31)) == Injection(0.2, None)
        assert draw([fault], "call", CALL, Numbers(0.51, 0.29)) == Injection(0.0, fault.abort)
        assert draw([fault], "call", CALL, Numbers(0.51, 0.31)) is None

    def test_the_share_of_the_fault_comes_before_those_of_its_parts(self):
        fault = Fault(abort=Abort(503, percent=50), percent=10)

        assert draw([fault], "call", CALL, Numbers(0.1)) is None
        assert draw([fault], "call", CALL, Numbers(0.09, 0.4)) == Injection(0.0, fault.abort)

    def test_only_faults_of_the_scope_hit(self):
        faults = [Fault(abort=Abort(503)), Fault(delay=Delay(1), scope="attempt")]

        assert draw(faults, "call", CALL, Numbers()) == Injection(0.0, Abort(503))
        assert draw(faults, "attempt", ATTEMPT, Numbers()) == Injection(1.0, None)

    def test_delays_add_up_and_the_first_abort_counts(self):
        faults = [Fault(delay=Delay(1)), Fault(abort=Abort(500)), Fault(delay=Delay(2), abort=Abort(404))]

        assert draw(faults, "call", CALL, Numbers()) == Injection(3.0, Abort(500))

    def test_a_match_that_raises_comes_through(self):
        fault = Fault(abort=Abort(503), match=lambda target: 1 / 0)

        with pytest.raises(ZeroDivisionError):
            draw([fault], "call", CALL, Numbers())


@pytest.mark.parametrize(
    ("match", "target", "hit"),
    [
        (HERE, ATTEMPT, True),
        (Endpoint("10.0.0.1:80", weight=7), ATTEMPT, True),
        ("10.0.0.1:80", ATTEMPT, True),
        ("10.0.0.2:80", ATTEMPT, False),
        ("10.0.0.1:80", FaultTarget("greeter"), False),
        (lambda target: target.service == "greeter" and target.endpoint == HERE, ATTEMPT, True),
        (lambda target: target.attempt > 1, ATTEMPT, False),
        (None, ATTEMPT, True),
    ],
)
def test_a_fault_hits_whom_it_is_aimed_at(match, target, hit):
    assert Fault(abort=Abort(503), scope="attempt", match=match).hits(target) is hit


@pytest.mark.parametrize("percent", [0, 0.1, 1, 12.5, 50, 99.9, 100])
def test_the_share_is_what_percent_says(percent):
    """To within five standard deviations of a thousand draws, which are the same in every run."""
    fault, rng = Fault(abort=Abort(503), percent=percent), random.Random(7)
    hits = sum(draw([fault], "call", CALL, rng) is not None for _ in range(1000))
    share = percent / 100

    assert abs(hits - 1000 * share) <= 5 * (1000 * share * (1 - share)) ** 0.5 + 1
