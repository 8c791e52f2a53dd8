"""The settings of ejection: ranges, what follows from what is given, and the defaults of Envoy and of gRPC."""

from __future__ import annotations

from dataclasses import fields

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.outlier.fault import Fault
from svcmesh.policy.outlier.rates import FailurePercentage, SuccessRate

ENVOYS = {
    "consecutive_5xx": 5,
    "enforcing_consecutive_5xx": 100,
    "consecutive_gateway_failure": 5,
    "enforcing_consecutive_gateway_failure": 0,
    "split_external_local_origin_errors": False,
    "consecutive_local_origin_failure": 5,
    "enforcing_consecutive_local_origin_failure": 100,
    "success_rate": SuccessRate(5, 100, 1900),
    "enforcing_local_origin_success_rate": 100,
    "failure_percentage": FailurePercentage(5, 50, 85),
    "enforcing_failure_percentage": 0,
    "enforcing_failure_percentage_local_origin": 0,
    "interval": 10,
    "base_ejection_time": 30,
    "max_ejection_time": 300,
    "max_ejection_time_jitter": 0,
    "max_ejection_percent": 10,
    "always_eject_one_host": False,
    "successful_active_health_check_uneject_host": True,
}


def test_envoys_defaults():
    envoy = OutlierDetection.envoy()

    assert {name: getattr(envoy, name) for name in ENVOYS} == ENVOYS
    assert envoy.enforcing("success_rate") == envoy.enforcing("success_rate_local_origin") == 100
    assert envoy.reading == "envoy"


def test_grpcs_defaults():
    grpc = OutlierDetection.grpc()

    assert (grpc.consecutive_5xx, grpc.consecutive_gateway_failure, grpc.reading) == (None, None, "grpc")
    assert (grpc.success_rate, grpc.failure_percentage) == (SuccessRate(5, 100, 1900), FailurePercentage(5, 50, 85))
    assert (grpc.interval, grpc.base_ejection_time, grpc.max_ejection_time) == (10, 30, 300)
    assert (grpc.max_ejection_percent, grpc.max_ejection_time_jitter) == (10, 0)
    assert grpc.enforcing("success_rate") == grpc.enforcing("failure_percentage") == 100


@pytest.mark.parametrize("build", [OutlierDetection.envoy, OutlierDetection.grpc])
def test_what_is_given_replaces_a_default_and_the_longest_is_never_shorter_than_the_first(build):
    found = build(base_ejection_time=400, max_ejection_percent=50, reading="standard")

    assert (found.base_ejection_time, found.max_ejection_time, found.max_ejection_percent) == (400, 400, 50)
    assert found.reading == "standard"
    with pytest.raises(ConfigError, match="^base_ejection_time "):
        build(base_ejection_time="30s")
    with pytest.raises(TypeError, match="monitors"):
        build(monitors=[])


def test_the_longest_may_be_the_first():
    assert OutlierDetection(base_ejection_time=7, max_ejection_time=7).max_ejection_time == 7


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, None),
        ({"success_rate_stdev_factor": 1500}, SuccessRate(5, 100, 1500)),
        ({"success_rate_minimum_hosts": 3}, SuccessRate(3, 100, 1900)),
        ({"success_rate_request_volume": 0}, SuccessRate(5, 0, 1900)),
        ({"enforcing_success_rate": 50}, SuccessRate(5, 100, 1900)),
    ],
)
def test_success_rates_are_compared_as_soon_as_one_of_their_fields_is_given(given, found):
    config = OutlierDetection(**given)

    assert config.success_rate == found
    assert config.compares == config.ticks == (found is not None)
    assert config.enforcing("success_rate") == given.get("enforcing_success_rate", 100)


def test_shares_are_compared_where_a_number_of_endpoints_is_wanted():
    assert OutlierDetection().failure_percentage is None
    assert OutlierDetection(failure_percentage_minimum_hosts=0).failure_percentage == FailurePercentage(0, 20, 85)
    assert OutlierDetection(failure_percentage_threshold=None, failure_percentage_minimum_hosts=3).ticks is False


def test_a_plain_5xx_counts_where_somebody_wants_it():
    for config in (OutlierDetection(consecutive_5xx=3), OutlierDetection(success_rate_minimum_hosts=3)):
        assert config.counts(Fault.SERVER)
    assert not OutlierDetection().counts(Fault.SERVER)
    assert OutlierDetection().counts(Fault.GATEWAY)
    assert OutlierDetection().counts(Fault.LOCAL)


def test_every_type_has_its_own_percentage():
    percents = {
        field.name: number for number, field in enumerate(fields(OutlierDetection)) if "enforcing" in field.name
    }
    config = OutlierDetection(**percents)

    found = {
        reason: config.enforcing(reason)
        for reason in (
            "consecutive_5xx",
            "consecutive_gateway_failure",
            "consecutive_local_origin_failure",
            "success_rate",
            "success_rate_local_origin",
            "failure_percentage",
            "failure_percentage_local_origin",
        )
    }
    assert found == {
        **{
            name.removeprefix("enforcing_"): percent
            for name, percent in percents.items()
            if "local_origin_s" not in name
        },
        "success_rate_local_origin": percents["enforcing_local_origin_success_rate"],
    }


class TestHowMany:
    @pytest.mark.parametrize(
        ("population", "most"), [(0, 0), (1, 0), (2, 1), (3, 2), (9, 8), (10, 5), (11, 5), (100, 50)]
    )
    def test_all_but_one_of_fewer_than_ten_and_half_of_more(self, population, most):
        assert OutlierDetection().most(population) == most

    @pytest.mark.parametrize(
        ("population", "percent", "most"),
        [(3, 10, 0), (9, 10, 0), (20, 10, 2), (3, 34, 1), (3, 67, 2), (2, 50, 1), (5, 100, 4), (5, 0, 0), (1, 100, 0)],
    )
    def test_a_percentage_counts_the_one_about_to_go_as_envoy_does(self, population, percent, most):
        assert OutlierDetection(max_ejection_percent=percent).most(population) == most

    def test_one_may_always_go_where_that_is_asked_for(self):
        always = OutlierDetection(max_ejection_percent=10, always_eject_one_host=True)

        assert [always.most(population) for population in (1, 2, 3, 9, 20)] == [0, 1, 1, 1, 2]

    @pytest.mark.parametrize(
        ("population", "percent", "envoy", "always", "grpc"),
        [
            (3, 10, 0, 1, 1),
            (9, 10, 0, 1, 1),
            (20, 10, 2, 2, 2),
            (3, 34, 1, 1, 2),
            (3, 67, 2, 2, 3),
            (2, 50, 1, 1, 1),
            (1, 100, 1, 1, 1),
            (5, 0, 0, 1, 0),
            (100, 29, 29, 29, 30),  # 29 / 100 * 100 is less than 29 in doubles, and so it is in Go
        ],
    )
    def test_the_two_readings_of_the_percentage(self, population, percent, envoy, always, grpc):
        """Envoy counts the one about to go, gRPC does not. Neither spares the last one."""

        def most(config: OutlierDetection) -> int:
            return next(ejected for ejected in range(population + 1) if not config.allows(ejected, population))

        assert most(OutlierDetection.envoy(max_ejection_percent=percent)) == envoy
        assert most(OutlierDetection.envoy(max_ejection_percent=percent, always_eject_one_host=True)) == always
        assert min(most(OutlierDetection.grpc(max_ejection_percent=percent)), population) == grpc

    def test_without_a_percentage_one_is_spared_in_every_reading(self):
        for config in (OutlierDetection(), OutlierDetection.envoy(max_ejection_percent=None)):
            assert [config.allows(ejected, 3) for ejected in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"consecutive_gateway_failure": 0}, "consecutive_gateway_failure"),
        ({"failure_percentage_threshold": 0}, "failure_percentage_threshold"),
        ({"failure_percentage_threshold": 101}, "failure_percentage_threshold"),
        ({"failure_percentage_request_volume": 0}, "failure_percentage_request_volume"),
        ({"interval": 0}, "interval"),
        ({"interval": None}, "interval"),
        ({"base_ejection_time": float("nan")}, "base_ejection_time"),
        ({"max_ejection_time": 1}, "max_ejection_time"),
        ({"max_ejection_time_jitter": -1}, "max_ejection_time_jitter"),
        ({"max_ejection_percent": 101}, "max_ejection_percent"),
        ({"consecutive_gateway_failure": None, "failure_percentage_threshold": None}, "consecutive_gateway_failure"),
        ({"consecutive_5xx": 0}, "consecutive_5xx"),
        ({"consecutive_5xx": 2.5}, "consecutive_5xx"),
        ({"consecutive_local_origin_failure": 0}, "consecutive_local_origin_failure"),
        ({"success_rate_stdev_factor": -1}, "success_rate_stdev_factor"),
        ({"success_rate_stdev_factor": 1.9}, "success_rate_stdev_factor"),
        ({"success_rate_minimum_hosts": -1}, "success_rate_minimum_hosts"),
        ({"success_rate_request_volume": True}, "success_rate_request_volume"),
        ({"failure_percentage_minimum_hosts": -1}, "failure_percentage_minimum_hosts"),
        ({"enforcing_success_rate": 101}, "enforcing_success_rate"),
        ({"enforcing_consecutive_5xx": None}, "enforcing_consecutive_5xx"),
        ({"enforcing_failure_percentage": -1}, "enforcing_failure_percentage"),
        ({"split_external_local_origin_errors": "no"}, "split_external_local_origin_errors"),
        ({"always_eject_one_host": 1}, "always_eject_one_host"),
        ({"successful_active_health_check_uneject_host": None}, "successful_active_health_check_uneject_host"),
        ({"reading": "istio"}, "reading"),
        ({"reading": ["envoy"]}, "reading"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=rf"^{named}\b"):
        OutlierDetection(**settings)
