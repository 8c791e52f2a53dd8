"""The policy alone around any function."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from typing import Any

import pybreaker
import pytest
import tenacity

from svcmesh import (
    PICKED,
    CircuitBreaker,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    Endpoint,
    Policy,
    Retry,
    info,
    remaining,
    resilient,
)
from svcmesh.engine.runtime import Runtime
from svcmesh.testing import FakeClock

module = importlib.import_module("svcmesh.resilient")  # `svcmesh.resilient` is the function

RETRY = Policy(
    idempotent=True, retry=Retry(retry=tenacity.retry_if_exception_type(KeyError), wait=tenacity.wait_none())
)


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def ask(self, value: int = 1) -> int:
        """Ask."""
        self.calls += 1
        if self.left:
            self.left -= 1
            raise KeyError("flaky")
        return value


def test_retries_of_tenacity_in_both_colours() -> None:
    plain, awaited = Flaky(2), Flaky(2)

    async def ask(value: int) -> int:
        return awaited.ask(value)

    assert resilient(RETRY)(plain.ask)(7) == 7
    assert asyncio.run(resilient(RETRY)(ask)(7)) == 7
    assert (plain.calls, awaited.calls) == (3, 3)
    assert resilient(RETRY)(plain.ask).__doc__ == "Ask."
    assert inspect.iscoroutinefunction(resilient(RETRY)(ask))


def test_without_idempotent_nothing_that_may_have_run_is_repeated() -> None:
    flaky = Flaky(2)

    with pytest.raises(KeyError) as caught:
        resilient(RETRY.replace(idempotent=False))(flaky.ask)()

    assert flaky.calls == 1
    assert info(caught.value).reason == "KeyError; not-idempotent"


@pytest.mark.parametrize("scope", ["endpoint", "service"])
def test_every_exception_counts_for_the_breaker_and_it_closes_without_a_thread(
    scope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in pybreaker; the next call finds out that the time is over."""
    clock = FakeClock()
    monkeypatch.setattr(module, "_runtime", Runtime(clock))
    threads = threading.active_count()
    breaker = CircuitBreaker(scope=scope, consecutive=2, failure_rate=None, open_for=5.0, probes=1)
    flaky = Flaky(2)
    ask = resilient(Policy(circuit_breaker=breaker))(flaky.ask)

    for _ in range(2):
        with pytest.raises(KeyError):
            ask()
    clock.advance(4.0)
    with pytest.raises(CircuitOpen) as caught:
        ask()
    assert caught.value.retry_after == pytest.approx(1.0)
    clock.advance(1.0)
    assert ask(5) == 5
    assert flaky.calls == 3
    assert threading.active_count() == threads


def test_the_function_is_called_by_its_name_and_by_nothing_else() -> None:
    """There is no endpoint, so none is shown to listeners or in errors."""
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(cb.name)

    def charge() -> None:
        raise KeyError

    async def slow() -> None:
        await asyncio.sleep(60)

    name = charge.__qualname__
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, listeners=[Listener()])
    charged = resilient(Policy(circuit_breaker=breaker))(charge)
    with pytest.raises(KeyError):
        charged()
    assert heard == [name]
    with pytest.raises(CircuitOpen, match="the circuit breaker of .*charge' is open") as refused:
        charged()
    with pytest.raises(DeadlineExceeded, match=r"a call to '.*slow' got no answer") as late:
        asyncio.run(resilient(Policy(timeout=9, per_try_timeout=0.01))(slow)())
    assert not any("invalid" in str(error.value) for error in (refused, late))


def test_a_function_that_waits_for_an_endpoint_is_refused() -> None:
    """There is none to fill in; a parameter of that name that means something else is the caller's."""

    class Client:
        def ask(self, endpoint: Endpoint = PICKED) -> Endpoint:
            return endpoint

        @staticmethod
        async def fetch(*, endpoint: Endpoint = PICKED) -> Endpoint:
            return endpoint

    for fn in (Client.ask, Client().ask, Client.fetch, Client.__dict__["fetch"]):
        with pytest.raises(ConfigError, match="'endpoint' .* decorate it with Service.guard"):
            resilient(RETRY)(fn)

    @resilient(RETRY)
    def ping(endpoint: str) -> str:
        return endpoint

    assert ping("eu.example") == ping(endpoint="eu.example") == "eu.example"


@pytest.mark.parametrize("colour", ["plain", "async"])
def test_the_error_of_the_last_attempt_comes_without_those_before_it(colour: str) -> None:
    """A traceback tells one story: the user's own exception, with the context that the user gave it."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        try:
            raise ValueError("its own")
        except ValueError:
            raise KeyError(len(calls))  # noqa: B904 - the context is what is looked at

    async def fail_later() -> None:
        fail()

    with pytest.raises(KeyError) as caught:
        resilient(RETRY)(fail)() if colour == "plain" else asyncio.run(resilient(RETRY)(fail_later)())

    assert caught.value.args == (3,)
    context = caught.value.__context__
    assert isinstance(context, ValueError)
    assert context.__context__ is None


def test_each_function_has_a_state_of_its_own() -> None:
    guard = resilient(Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None)))
    broken, fine = guard(Flaky(9).ask), guard(Flaky(0).ask)

    with pytest.raises(KeyError):
        broken()
    with pytest.raises(CircuitOpen):
        broken()
    assert fine() == 1


def test_excluded_exceptions_and_listeners_are_pybreakers() -> None:
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(new_state.name)

    breaker = CircuitBreaker(consecutive=1, failure_rate=None, exclude=[KeyError], listeners=[Listener()])
    ask = resilient(Policy(circuit_breaker=breaker))(Flaky(3).ask)
    for _ in range(3):
        with pytest.raises(KeyError):
            ask()
    assert ask() == 1

    def fail() -> None:
        raise ValueError

    failing = resilient(Policy(circuit_breaker=breaker))(fail)
    with pytest.raises(ValueError):
        failing()
    with pytest.raises(CircuitOpen):
        failing()
    assert heard == ["open"]


def test_a_coroutine_has_a_deadline() -> None:
    async def hang() -> None:
        left = remaining()
        assert left is not None
        assert left <= 0.05
        await asyncio.sleep(60)

    with pytest.raises(DeadlineExceeded):
        asyncio.run(resilient(Policy(timeout=0.05))(hang)())
