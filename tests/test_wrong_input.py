"""Every public parameter, given what it cannot be: a typed error that names it, at the earliest moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import svcmesh
from svcmesh import (
    Abort,
    CircuitBreaker,
    ConfigError,
    Delay,
    Endpoint,
    Fault,
    Locality,
    Mesh,
    OutlierDetection,
    Policy,
    Retry,
    RetryBudget,
    Service,
    Snapshot,
    resilient,
)
from svcmesh.testing import FakeClock

DELAY = Fault(delay=Delay(0.1))
NO_NUMBERS: tuple[Any, ...] = (-1, math.nan, math.inf, True, "1", b"1", [1])
NO_RATIOS: tuple[Any, ...] = (*NO_NUMBERS, 1.5, None)
NO_COUNTS: tuple[Any, ...] = (0, -1, 1.5, True, "3", None)
NO_TEXT: tuple[Any, ...] = (3, b"x", True, ["x"])
NO_FLAGS: tuple[Any, ...] = ("no", 0, 1, None)
NO_POLICIES: tuple[Any, ...] = (3, "standard", Policy, {"timeout": 1})
NO_ADDRESSES = (
    *("a", "a:0", "a:70000", "a..b:80", ".a:80", "999:80", "0x7f.1:80", "a.123:80", "-a:80", "a-:80", "a.-b:80"),
    *("x" * 64 + ":80", "::1:80", "[::1]", "unix:", "unix:x", "unix:/", "unix:/" + "a" * 107),
)

Build = Callable[[Mesh, Service, Any], object]

WRONG: dict[str, tuple[tuple[Any, ...], Build]] = {
    "Mesh discovery": ((3, "", "nonsense", "bogus://x", Mesh, ["a:1"], {"": []}, {3: []}), lambda m, s, x: Mesh(x)),
    "Mesh policy": (NO_POLICIES, lambda m, s, x: Mesh({}, policy=x)),
    "Mesh clock": ((3, "now", object(), FakeClock), lambda m, s, x: Mesh({}, clock=x)),
    "Mesh rng": ((3, lambda: 0.5, object()), lambda m, s, x: Mesh({}, rng=x)),
    "Mesh services": (
        (3, [1], {"": Policy()}, {3: Policy()}, {"a": None}, {"a": ("", Policy())}, {"a": ("x://", Policy())}),
        lambda m, s, x: Mesh({}, services=x),
    ),
    "Mesh.service name": (("", *NO_TEXT, "bogus://x"), lambda m, s, x: m.service(x)),
    "Mesh.service policy": (NO_POLICIES, lambda m, s, x: m.service("new", policy=x)),
    "Mesh.explain": (("", "unknown", *NO_TEXT), lambda m, s, x: m.explain(x)),
    "Mesh.http_transport passthrough": (NO_FLAGS, lambda m, s, x: m.http_transport(passthrough=x)),
    "Mesh.http_async_transport passthrough": (NO_FLAGS, lambda m, s, x: m.http_async_transport(passthrough=x)),
    "events.subscribe listener": ((None, 3, "print"), lambda m, s, x: m.events.subscribe(x)),
    "events.subscribe pattern": (
        ("", "nothing.*", 3, b"*", None),
        lambda m, s, x: m.events.subscribe(print, x),
    ),
    "faults.inject fault": ((3, "503", Abort(503), None), lambda m, s, x: m.faults.inject("s", x).__enter__()),
    "faults.inject service": (("", 3, None), lambda m, s, x: m.faults.inject(x, DELAY).__enter__()),
    "Service.with_policy": ((None, *NO_POLICIES), lambda m, s, x: s.with_policy(x)),
    "Service.pick": (("x", True, 1.5, b"x"), lambda m, s, x: s.pick(x)),
    "Service.attempt": (("x", True, 1.5, b"x"), lambda m, s, x: s.attempt(x)),
    "Service.wait_ready": ((None, *NO_NUMBERS), lambda m, s, x: s.wait_ready(x)),
    "Service.guard": ((3, "f", property(print), int), lambda m, s, x: s.guard(x)),
    "Service.guard later": ((None, 3, "f", int), lambda m, s, x: s.guard(idempotent=True)(x)),
    "Service.guard idempotent": (NO_FLAGS, lambda m, s, x: s.guard(idempotent=x)),
    "Service.guard policy": (NO_POLICIES, lambda m, s, x: s.guard(policy=x)),
    "resilient policy": ((None, *NO_POLICIES), lambda m, s, x: resilient(x)),
    "resilient function": ((None, 3, "f", int), lambda m, s, x: resilient(Policy())(x)),
    "deadline": ((None, *NO_NUMBERS), lambda m, s, x: svcmesh.deadline(x)),
    "in_context": ((None, 3, "f"), lambda m, s, x: svcmesh.in_context(x)),
    "Locality": ((None, *NO_TEXT), lambda m, s, x: Locality(zone=x)),
    "Endpoint address": (
        (None, *NO_TEXT, "", *NO_ADDRESSES),
        lambda m, s, x: Endpoint(x),
    ),
    "Endpoint weight": ((None, *NO_NUMBERS), lambda m, s, x: Endpoint("a:1", weight=x)),
    "Endpoint priority": ((-1, 1.5, True, "1", None), lambda m, s, x: Endpoint("a:1", priority=x)),
    "Endpoint locality": (("eu", 3, {"region": "eu"}), lambda m, s, x: Endpoint("a:1", locality=x)),
    "Endpoint metadata": ((None, 3, "x", {3: "x"}), lambda m, s, x: Endpoint("a:1", metadata=x)),
    "Endpoint health": (("healthy", None, True), lambda m, s, x: Endpoint("a:1", health=x)),
    "Snapshot endpoints": ((3, None, "a:1", ("a:1",)), lambda m, s, x: Snapshot(x)),
    "Policy timeout": ((0, *NO_NUMBERS), lambda m, s, x: Policy(timeout=x)),
    "Policy per_try_timeout": ((0, *NO_NUMBERS), lambda m, s, x: Policy(per_try_timeout=x)),
    "Policy retry": ((3, True, Retry), lambda m, s, x: Policy(retry=x)),
    "Policy circuit_breaker": ((3, True, CircuitBreaker), lambda m, s, x: Policy(circuit_breaker=x)),
    "Policy outlier_detection": ((3, True, OutlierDetection), lambda m, s, x: Policy(outlier_detection=x)),
    "Policy load_balancer": ((3, "round_robin"), lambda m, s, x: Policy(load_balancer=x)),
    "Policy idempotent": ((3, "no", None), lambda m, s, x: Policy(idempotent=x)),
    "Policy faults": ((3, [3], "x"), lambda m, s, x: Policy(faults=x)),
    "Policy panic_threshold": (NO_RATIOS, lambda m, s, x: Policy(panic_threshold=x)),
    "Policy priorities": ((3, None, {}), lambda m, s, x: Policy(priorities=x)),
    "Policy locality": ((3, "eu", Locality("eu")), lambda m, s, x: Policy(locality=x)),
    "Policy slow_start": ((3, 30.0, True), lambda m, s, x: Policy(slow_start=x)),
    "Retry previous_priorities": ((0, -1, 1.5, True, "1"), lambda m, s, x: Retry(previous_priorities=x)),
    "Retry max_attempts": (NO_COUNTS, lambda m, s, x: Retry(max_attempts=x)),
    "Retry on": ((3, ["bogus"], "bogus"), lambda m, s, x: Retry(on=x)),
    "Retry budget": ((3, True), lambda m, s, x: Retry(budget=x)),
    "Retry buffer_response": ((-1, 1.5, True, "1"), lambda m, s, x: Retry(buffer_response=x)),
    "RetryBudget ratio": (NO_RATIOS, lambda m, s, x: RetryBudget(ratio=x)),
    "RetryBudget per_second": ((None, *NO_NUMBERS), lambda m, s, x: RetryBudget(per_second=x)),
    "CircuitBreaker open_for": ((None, 0, *NO_NUMBERS), lambda m, s, x: CircuitBreaker(open_for=x)),
    "Abort status": (("bogus", True, 99, 3, None), lambda m, s, x: Abort(x)),
    "Abort percent": ((None, 101, *NO_NUMBERS), lambda m, s, x: Abort(503, percent=x)),
    "Delay seconds": ((None, *NO_NUMBERS), lambda m, s, x: Delay(x)),
    "Fault": ((None, 503, Delay(1)), lambda m, s, x: Fault(abort=x)),
    "Fault scope": ((None, "x", 3), lambda m, s, x: Fault(delay=Delay(1), scope=x)),
    "Fault match": ((3, True), lambda m, s, x: Fault(delay=Delay(1), match=x)),
}


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh({"s": ["127.0.0.1:1"]}) as found:
        yield found


@pytest.mark.parametrize("parameter", WRONG)
def test_wrong_input_is_a_typed_error_at_once(mesh: Mesh, parameter: str) -> None:
    """`ConfigError`, which is a ValueError too, and never an accident further in."""
    service = mesh.service("s")
    values, build = WRONG[parameter]
    for value in values:
        try:
            build(mesh, service, value)
        except ConfigError:
            pass
        except Exception as error:  # noqa: BLE001 - which one is what the test is about
            pytest.fail(f"{parameter}={value!r} is {type(error).__name__}: {error}")
        else:
            pytest.fail(f"{parameter}={value!r} is accepted")


async def test_awaiting_readiness_checks_as_blocking_does(mesh: Mesh) -> None:
    for value in (None, -1, math.nan, True):
        with pytest.raises(ConfigError, match="timeout"):
            await mesh.service("s").wait_ready_async(value)  # type: ignore[arg-type]
