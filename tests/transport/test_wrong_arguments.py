"""Arguments that a guarded function does not take are a mistake of its caller: nothing is held against anybody."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from svcmesh import PICKED, CircuitBreaker, Endpoint, Mesh, Policy, Retry, resilient
from svcmesh.testing import FakeClock

STRICT = Policy(
    retry=Retry(retry=tenacity.retry_if_exception_type(Exception), wait=lambda _: 0.0, budget=None),
    circuit_breaker=(
        CircuitBreaker(consecutive=1, failure_rate=None),
        CircuitBreaker(scope="service", consecutive=1, failure_rate=None),
    ),
    idempotent=True,
)
"""Any exception is repeated and opens circuits."""


def plain(a: int) -> int:
    return a


class Instance:
    def __call__(self, a: int) -> int:
        return a

    def method(self, a: int) -> int:
        return a


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> int:
    return plain(*args, **kwargs)


def picking(a: int, *more: int, endpoint: Endpoint = PICKED) -> int:
    return a + len(more)


def hiding(a: int, now_: int = 0) -> int:
    """Has a parameter of a name that the straight line uses itself."""
    return a + now_


async def awaited(a: int) -> int:
    return a


FUNCTIONS = [
    plain,
    Instance(),
    Instance().method,
    wrapped,
    functools.partial(plain),
    functools.partial(awaited),
    abs,
    picking,
    hiding,
    awaited,
]
WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((), {}), ((1,), {"zzz": 1})]


@pytest.mark.parametrize(
    "function", FUNCTIONS, ids=lambda function: getattr(function, "__name__", repr(type(function)))
)
@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize(("args", "kwargs"), WRONG)
def test_they_are_a_type_error_and_nothing_else(
    function: Callable[..., Any], straight: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """They are not repeated, open no circuit, and are no success of anybody either."""
    with Mesh({"service": ["127.0.0.1:1"]}, policy=STRICT, clock=None if straight else FakeClock()) as mesh:
        service = mesh.service("service")
        guarded = service.guard(function)
        with pytest.raises(TypeError):
            _made(guarded(*args, **kwargs))
        (member,) = service.view.cluster.members.values()
        assert member.started <= 1
        assert member.succeeded == 0
        assert service.view.breakers.of(member) == []
        assert mesh.state()["services"]["service"]["breakers"] == ["closed"]
        assert _made(guarded(1)) == 1


def test_a_policy_around_a_function_counts_them_no_more() -> None:
    guarded = resilient(STRICT)(wrapped)

    for _ in range(3):
        with pytest.raises(TypeError, match="missing 1 required"):
            guarded()

    assert guarded(1) == 1


def test_a_type_error_of_the_function_itself_is_a_failure_like_any_other() -> None:
    def fails(a: int) -> None:
        raise TypeError(a)

    with Mesh({"service": ["127.0.0.1:1"]}, policy=STRICT) as mesh:
        with pytest.raises(TypeError):
            mesh.service("service").guard(functools.partial(fails))(1)
        assert mesh.state()["services"]["service"]["breakers"] == ["open"]


def _made(answer: Any) -> Any:
    return asyncio.run(_awaited(answer)) if asyncio.iscoroutine(answer) else answer


async def _awaited(answer: Any) -> Any:
    return await answer
