"""A policy is checked as a whole when it is built, and never changes."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from tenacity import stop_after_attempt

from svcmesh.balance import (
    LocalityFailover,
    LocalityWeighted,
    Maglev,
    PeakEwma,
    RoundRobin,
    SlowStart,
    ZoneAware,
)
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError
from svcmesh.policy import (
    Abort,
    CircuitBreaker,
    Delay,
    Fault,
    OutlierDetection,
    Policy,
    Retry,
    RetryBudget,
)

FAULT = Fault(abort=Abort(503))


def test_an_empty_policy_turns_nothing_on():
    policy = Policy()

    assert (policy.timeout, policy.per_try_timeout, policy.retry, policy.outlier_detection) == (None, None, None, None)
    assert (policy.breakers, policy.faults, policy.panic_threshold, policy.idempotent) == ((), (), 0.0, False)


def test_the_standard_policy_is_the_designs():
    policy = Policy.standard()

    assert (policy.timeout, policy.per_try_timeout, policy.timeout_ends_streams) == (10.0, 3.0, False)
    assert policy.retry == Retry(max_attempts=3, budget=RetryBudget(ratio=0.2, per_second=10, window=10))
    assert policy.breakers == (
        CircuitBreaker(scope="endpoint", failure_rate=0.5, minimum_calls=20, window=30, open_for=5, probes=3),
    )
    assert policy.outlier_detection == OutlierDetection(
        consecutive_gateway_failure=5,
        failure_percentage_threshold=85,
        failure_percentage_request_volume=20,
        base_ejection_time=5,
        max_ejection_time=300,
    )
    assert policy.panic_threshold == 0.5
    assert policy.idempotent is False


def test_the_standard_policy_is_one_object():
    assert Policy.standard() is Policy.standard()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": "10s"}, "timeout"),
        ({"per_try_timeout": 0}, "per_try_timeout"),
        ({"timeout": 1, "per_try_timeout": 2}, "per_try_timeout"),
        ({"retry": 3}, "retry"),
        ({"retry": Retry}, "retry must be a Retry or None"),
        ({"outlier_detection": True}, "outlier_detection must be an OutlierDetection or None"),
        ({"circuit_breaker": True}, "circuit_breaker"),
        ({"circuit_breaker": (CircuitBreaker(), None)}, "circuit_breaker"),
        ({"circuit_breaker": (CircuitBreaker(), CircuitBreaker(probes=1))}, "circuit_breaker"),
        ({"load_balancer": "round_robin"}, "load_balancer"),
        ({"load_balancer": RoundRobin}, "load_balancer"),
        ({"idempotent": {"SayHello"}}, "idempotent"),
        ({"faults": [Abort(503)]}, "faults"),
        ({"faults": "abort"}, "faults"),
        ({"faults": 7}, "faults"),
        ({"panic_threshold": 50}, "panic_threshold"),
        ({"priorities": None}, "priorities"),
        ({"locality": Locality("eu")}, "locality"),
        ({"slow_start": 30.0}, "slow_start"),
        ({"slow_start": SlowStart(30.0), "load_balancer": PeakEwma()}, "slow_start"),
        ({"slow_start": SlowStart(30.0), "load_balancer": Maglev()}, "slow_start"),
        ({"timeout_ends_streams": None}, "timeout_ends_streams"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=rf"^{named}\b"):
        Policy(**settings)


def test_a_key_belongs_to_an_endpoint_and_not_to_a_zone():
    """A table that knew zones would send a key to another endpoint in each of them."""
    with pytest.raises(ConfigError, match=r"^locality: .*Maglev"):
        Policy(load_balancer=Maglev(), locality=ZoneAware(Locality("eu"), {Locality("eu"): 1}))
    Policy(load_balancer=Maglev(), locality=LocalityWeighted({Locality("eu"): 1}))
    Policy(load_balancer=Maglev(), locality=LocalityFailover(Locality("eu")))


class TestReplace:
    def test_it_changes_a_copy(self):
        policy = Policy.standard()
        quick = policy.replace(per_try_timeout=1.0)

        assert (quick.per_try_timeout, policy.per_try_timeout) == (1.0, 3.0)
        assert quick.retry is policy.retry

    def test_an_unknown_field_is_named_with_the_known_ones(self):
        with pytest.raises(ConfigError, match=r"^timeouts is not a field of Policy; there are timeout, per_try"):
            Policy().replace(timeouts=1)

    def test_the_copy_is_checked_too(self):
        with pytest.raises(ConfigError, match=r"^per_try_timeout must be at most timeout"):
            Policy.standard().replace(timeout=1.0)

    def test_a_timeout_that_somebody_chose_holds_for_streams(self):
        assert Policy.standard().replace(timeout=20.0).timeout_ends_streams
        assert not Policy.standard().replace(per_try_timeout=1.0).timeout_ends_streams
        assert not Policy().replace(timeout=20.0, timeout_ends_streams=False).timeout_ends_streams


def test_methods_are_idempotent_as_listed():
    policy = Policy(idempotent={"/greet.Greeter/SayHello", "/shop.Orders/*"})

    assert policy.is_idempotent("/greet.Greeter/SayHello")
    assert policy.is_idempotent("/shop.Orders/Get")
    assert not policy.is_idempotent("/greet.Greeter/SayBye")
    assert Policy(idempotent=True).is_idempotent("/any.Thing/AtAll")
    assert not Policy().is_idempotent("/any.Thing/AtAll")


def test_breakers_of_both_scopes_go_together():
    endpoint, service = CircuitBreaker(), CircuitBreaker(scope="service")

    assert Policy(circuit_breaker=[endpoint, service]).breakers == (endpoint, service)
    assert Policy(circuit_breaker=service).breakers == (service,)


def test_policies_travel_to_other_processes():
    """With settings of one's own too, as long as these can be pickled."""
    here = Locality("eu")
    policy = Policy.standard().replace(
        faults=[FAULT],
        retry=Retry(on=[503, OSError], stop=stop_after_attempt(7)),
        locality=ZoneAware(here, {here: 2, Locality("us"): 1}),
        slow_start=SlowStart(30.0),
    )
    copied = pickle.loads(pickle.dumps(policy))

    assert pickle.loads(pickle.dumps(Policy.standard())) == copy.deepcopy(Policy.standard()) == Policy.standard()
    assert (copied.faults, copied.retry.on) == (policy.faults, policy.retry.on)
    assert (copied.locality, copied.slow_start) == (policy.locality, policy.slow_start)
    assert copied.retry.stop.max_attempt_number == 7


def test_one_fault_may_come_alone():
    assert Policy(faults=FAULT).faults == Policy(faults=[FAULT]).faults == (FAULT,)


def test_policies_are_values():
    first = Policy(timeout=1, idempotent=["/a.B/C"], faults=[Fault(delay=Delay(1))], retry=Retry(on=[503, 502]))
    second = Policy(timeout=1, idempotent={"/a.B/C"}, faults=(Fault(delay=Delay(1)),), retry=Retry(on=(502, 503)))

    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.timeout = 2
