"""The settings of a circuit breaker: what is refused when they are built."""

from __future__ import annotations

import abc

import pybreaker
import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.circuit import CircuitBreaker, Slow


class Memory(pybreaker.CircuitMemoryStorage):
    def __init__(self) -> None:
        super().__init__(pybreaker.STATE_CLOSED)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"scope": "cluster"}, "scope"),
        ({"failure_rate": None}, "failure_rate"),
        ({"failure_rate": 0}, "failure_rate"),
        ({"failure_rate": 50}, "failure_rate"),
        ({"failure_rate": float("nan")}, "failure_rate"),
        ({"consecutive": 0}, "consecutive"),
        ({"minimum_calls": 0}, "minimum_calls"),
        ({"window": 0}, "window"),
        ({"open_for": -1}, "open_for"),
        ({"probes": 0}, "probes"),
        ({"slow": 1.0}, "slow"),
        ({"exclude": ValueError}, "exclude"),
        ({"exclude": ["ValueError"]}, "exclude"),
        ({"exclude": [KeyboardInterrupt]}, "exclude"),
        ({"listeners": pybreaker.CircuitBreakerListener()}, "listeners"),
        ({"listeners": [print]}, "listeners"),
        ({"listeners": [pybreaker.CircuitBreakerListener]}, "listeners"),
        ({"storage": Memory()}, "storage"),
        ({"storage": "redis"}, "storage"),
        ({"storage": 7, "scope": "service"}, "storage"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=rf"^{named}\b"):
        CircuitBreaker(**settings)


@pytest.mark.parametrize(("settings", "named"), [({"seconds": 0}, "seconds"), ({"seconds": 1, "rate": 1.5}, "rate")])
def test_a_wrong_field_of_slow_is_named(settings, named):
    with pytest.raises(ConfigError, match=f"^{named} must"):
        Slow(**settings)


def test_one_storage_serves_a_service_but_not_many_endpoints():
    storage = Memory()

    assert CircuitBreaker(scope="service", storage=storage).storage is storage
    with pytest.raises(ConfigError, match="all endpoints would share one state"):
        CircuitBreaker(storage=storage)


def test_one_rule_is_enough():
    by_count = CircuitBreaker(failure_rate=None, consecutive=5)
    by_time = CircuitBreaker(failure_rate=None, slow=Slow(seconds=1))

    assert (by_count.failure_rate, by_count.consecutive, by_count.slow) == (None, 5, None)
    assert (by_time.failure_rate, by_time.consecutive, by_time.slow) == (None, None, Slow(seconds=1))
    with pytest.raises(ConfigError, match="failure_rate"):
        CircuitBreaker(failure_rate=None)


def test_equal_settings_are_equal_and_hash_alike():
    listener = pybreaker.CircuitBreakerListener()

    assert CircuitBreaker(listeners=[listener]) == CircuitBreaker(listeners=(listener,))
    assert hash(CircuitBreaker(exclude=[ValueError])) == hash(CircuitBreaker(exclude=(ValueError,)))


def test_an_exclusion_is_a_class_or_a_function():
    """A class with a metaclass is still a class; stock pybreaker calls it, and so excludes every error."""

    class Abstract(Exception, metaclass=abc.ABCMeta):
        pass

    config = CircuitBreaker(exclude=[Abstract, lambda error: "quota" in str(error)])

    assert config.excludes(Abstract())
    assert config.excludes(ValueError("over quota"))
    assert not config.excludes(ValueError("broken"))


@pytest.mark.parametrize("field", ["window", "open_for"])
def test_none_is_no_time(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be a number of seconds"):
        CircuitBreaker(**{field: None})
