"""Numbers that the tests of Envoy, grpc-go and grpc-java expect of their ejections; the test that has them is named.

Those of Envoy are in test/common/upstream/outlier_detection_impl_test.cc, grpc-go's in
internal/xds/balancer/outlierdetection/balancer_test.go, grpc-java's in OutlierDetectionLoadBalancerTest.java.
"""

from __future__ import annotations

from typing import Any

import pytest

from svcmesh.policy.outlier import OutlierDetection
from tests.policy.outlier.hosts import BROKEN, REFUSED, UNAVAILABLE, A, Fleet


def alone(**settings: Any) -> Fleet:
    """Return one host of Envoy's, who may go."""
    return Fleet(OutlierDetection.envoy(max_ejection_percent=100, **settings), size=1)


def ejected(fleet: Fleet) -> tuple[float, int]:
    """Let the only host fail five times in a row; return the seconds of its ejection and the ticks until it is back."""
    [ejection] = fleet.serve(A, bad=5, outcome=BROKEN)
    return ejection.seconds, fleet.ticks_until_back(A)


# -- Envoy -------------------------------------------------------------------------------------------------------------


def test_ejections_are_longer_each_time_and_shorter_after_a_rest() -> None:
    """EjectTimeBackoff."""
    fleet = alone(base_ejection_time=10.0)
    assert [ejected(fleet) for _ in range(3)] == [(10, 1), (20, 2), (30, 3)]
    fleet.tick(2)
    assert ejected(fleet) == (20, 2)
    fleet.tick(50)
    assert ejected(fleet) == (10, 1)


@pytest.mark.parametrize(("longest", "ticks"), [(300.0, 30), (305.0, 31)])
def test_ejections_do_not_get_longer_for_ever(longest: float, ticks: int) -> None:
    """MaxEjectTime, MaxEjectTimeNotAlligned: what is no whole number of intervals takes one more."""
    fleet = alone(base_ejection_time=10.0, max_ejection_time=longest)
    assert [ejected(fleet)[1] for _ in range(ticks)] == [*range(1, ticks + 1)]
    assert [ejected(fleet) for _ in range(9)] == [(longest, ticks)] * 9


def test_a_gateways_failures_are_counted_from_the_last_other_one_on() -> None:
    """BasicFlowGatewayFailure: a 503, a 500 and four 503 are none, though they are five 5xx in a row."""
    fleet = alone(enforcing_consecutive_gateway_failure=100, enforcing_consecutive_5xx=0)
    found = [fleet.serve(A, bad=bad, outcome=what) for bad, what in ((1, UNAVAILABLE), (1, BROKEN), (4, UNAVAILABLE))]
    assert found == [[], [], []]
    assert [each.reason for each in fleet.serve(A, bad=1)] == ["consecutive_gateway_failure"]
    assert fleet.ticks_until_back(A) == 3
    assert fleet.serve(A, bad=4) == []
    assert [each.seconds for each in fleet.serve(A, bad=1)] == [60]


def test_both_kinds_of_runs_begin_anew_with_the_host() -> None:
    """BasicFlowGatewayFailureAnd5xx."""
    fleet = alone(enforcing_consecutive_gateway_failure=100)
    fleet.serve(A, bad=1)
    assert fleet.serve(A, good=1, bad=4) == []
    assert [each.reason for each in fleet.serve(A, bad=1)] == ["consecutive_gateway_failure"]
    fleet.ticks_until_back(A)
    assert fleet.serve(A, bad=2) + fleet.serve(A, bad=2, outcome=BROKEN) == []
    assert [each.reason for each in fleet.serve(A, bad=1, outcome=BROKEN)] == ["consecutive_5xx"]


def test_failures_without_an_answer_are_apart_where_they_are_split() -> None:
    """BasicFlowLocalOriginFailure: what fails while it is out does not count, and 60 s end at the first tick after."""
    fleet = alone(split_external_local_origin_errors=True)
    assert [each.reason for each in fleet.serve(A, bad=5, outcome=REFUSED)] == ["consecutive_local_origin_failure"]
    assert fleet.serve(A, bad=5, outcome=REFUSED) == []
    assert fleet.ticks_until_back(A) == 3
    assert [each.seconds for each in fleet.serve(A, bad=5, outcome=REFUSED)] == [60]
    assert fleet.ticks_until_back(A) == 6
    assert fleet.serve(A, bad=4, outcome=REFUSED) + fleet.serve(A, good=1, bad=2, outcome=REFUSED) == []


def test_a_rate_of_50_among_four_of_100() -> None:
    """BasicFlowSuccessRateExternalOrigin: 200 good and 200 bad ones; with 50 requests its rate counts for nothing."""
    fleet = Fleet(OutlierDetection.envoy(enforcing_consecutive_5xx=0, max_ejection_percent=20))
    fleet.serve_rest(A, good=200)
    fleet.serve(A, good=200, bad=200)
    assert [(each.address, each.reason) for each in fleet.tick().ejected] == [(A, "success_rate")]
    fleet.ticks_until_back(A)
    fleet.serve_rest(A, good=25)
    fleet.serve(A, good=25, bad=25)
    assert fleet.tick().ejected == []


# -- gRPC --------------------------------------------------------------------------------------------------------------

FEW = {"success_rate_minimum_hosts": 3, "success_rate_request_volume": 10, "enforcing_failure_percentage": 0}
SHARES = {"failure_percentage_minimum_hosts": 3, "failure_percentage_request_volume": 10, "enforcing_success_rate": 0}
MANY = {"max_ejection_percent": 50}
GO = SHARES | {"failure_percentage_request_volume": 3, "failure_percentage_threshold": 50, "max_ejection_percent": 10}
GO_RATES = FEW | {"success_rate_request_volume": 3, "success_rate_stdev_factor": 500, "max_ejection_percent": 10}
ANY = FEW | SHARES | {"max_ejection_percent": 100, "success_rate_stdev_factor": 1, "enforcing_success_rate": 100}
ANY |= {"failure_percentage_threshold": 0, "failure_percentage_request_volume": 1, "enforcing_failure_percentage": 100}
"""A share of failures above 0 is too much; of the three two are found twice."""
BUSY = {"success_rate_request_volume": 20, "failure_percentage_request_volume": 20}


@pytest.mark.parametrize(
    ("settings", "calls", "failing", "out"),
    [
        (FEW | MANY, [100] * 5, 0, 0),
        (FEW | MANY, [100] * 5, 1, 1),
        (FEW | MANY | BUSY, [19, 100, 100, 100, 100], 1, 0),
        (FEW | MANY | BUSY | {"success_rate_minimum_hosts": 5}, [100, 19, 100, 100, 100], 1, 0),
        (FEW | MANY | {"enforcing_success_rate": 0}, [100] * 5, 1, 0),
        (FEW | MANY | {"success_rate_stdev_factor": 1}, [100] * 5, 2, 2),
        (FEW | {"max_ejection_percent": 30, "success_rate_stdev_factor": 1}, [100] * 5, 3, 2),
        (SHARES | MANY, [100] * 5, 0, 0),
        (SHARES | MANY, [100] * 5, 1, 1),
        (SHARES | MANY | {"failure_percentage_request_volume": 101}, [100] * 5, 1, 0),
        (SHARES | MANY | BUSY | {"failure_percentage_minimum_hosts": 5}, [100, 19, 100, 100, 100], 1, 0),
        (SHARES | MANY | {"enforcing_failure_percentage": 0}, [100] * 5, 1, 0),
        (ANY, [100, 100, 1, 100, 100], 3, 3),
        (GO, [5] * 3, 1, 1),
        (GO, [5] * 3, 0, 0),
        (GO | {"enforcing_failure_percentage": 0}, [5] * 3, 1, 0),
        (GO | {"max_ejection_percent": 0}, [5] * 3, 1, 0),
        (GO_RATES, [5] * 3, 1, 1),
        (GO_RATES, [5] * 3, 0, 0),
    ],
    ids=[
        "successRateNoOutliers",
        "successRateOneOutlier",
        "successRateOneOutlier_notEnoughVolume",
        "successRateOneOutlier_notEnoughAddressesWithVolume",
        "successRateOneOutlier_enforcementPercentage",
        "successRateTwoOutliers",
        "successRateThreeOutliers_maxEjectionPercentage",
        "failurePercentageNoOutliers",
        "failurePercentageOneOutlier",
        "failurePercentageOneOutlier_notEnoughVolume",
        "failurePercentageOneOutlier_notEnoughAddressesWithVolume",
        "failurePercentageOneOutlier_enforcementPercentage",
        "successRateAndFailurePercentageThreeOutliers",
        "TestEjectUnejectSuccessRate-one_failure",
        "TestEjectUnejectSuccessRate-no_failure",
        "TestEjectUnejectSuccessRate-enforcement_perc",
        "TestEjectUnejectSuccessRate-max_ejection_perc",
        "TestEjectFailureRate-one_failure",
        "TestEjectFailureRate-no_failure",
    ],
)
def test_whom_grpc_ejects(settings: dict[str, Any], calls: list[int], failing: int, out: int) -> None:
    """All calls of the first ones fail; the next tick ejects so many, these first."""
    fleet = Fleet(OutlierDetection.grpc(**settings), size=len(calls))
    for place, (address, number) in enumerate(zip(fleet.hosts, calls, strict=True)):
        fleet.serve(address, **({"bad": number, "outcome": BROKEN} if place < failing else {"good": number}))
    fleet.tick()
    assert list(fleet.detector.ejected) == list(fleet.hosts)[:out]
