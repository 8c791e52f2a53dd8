"""What is remembered of one endpoint: what it has failed with since it was asked, and how long it goes."""

from __future__ import annotations

from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.outlier.fault import Fault
from svcmesh.policy.outlier.record import Faults, Record
from tests.policy.outlier.hosts import Traffic


def test_what_was_taken_is_not_given_again():
    record = Record(OutlierDetection())
    for fault in (Fault.LOCAL, Fault.GATEWAY, Fault.SERVER, Fault.SERVER):
        record.count(fault, Traffic(), 0.0, refused=False)

    assert record.take() == Faults(local=1, gateway=1, server=2)
    assert record.take() == Faults()


def test_an_end_of_its_ejection_takes_nothing_from_the_interval():
    """As in Envoy: only what is judged at each failure begins afresh."""
    record = Record(OutlierDetection())
    record.count(Fault.GATEWAY, Traffic(), 0.0, refused=False)
    record.clear()

    assert record.run("consecutive_gateway_failure").length == 0
    assert record.take() == Faults(gateway=1)


def test_only_what_blames_the_endpoint_is_in_its_share():
    record = Record(OutlierDetection())
    for fault in (Fault.LOCAL, Fault.SERVER, Fault.GATEWAY):
        record.count(fault, Traffic(), 0.0, refused=False)

    assert record.since(-1.0) == 2


def test_ejections_grow_longer_until_that_changes_nothing():
    """Envoy stops counting one beyond the maximum; gRPC never does."""
    envoy, grpc = Record(OutlierDetection.envoy(max_ejection_time=70)), Record(OutlierDetection.grpc())

    assert [envoy.sentence(0.0) for _ in range(6)] == [30, 60, 70, 70, 70, 70]
    assert envoy.multiplier == 4, "4 * 30 is not less than 70 + 30"
    assert [grpc.sentence(0.0) for _ in range(12)] == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    assert grpc.multiplier == 12


def test_forgiveness_has_an_end():
    record = Record(OutlierDetection.envoy())
    record.sentence(0.0)
    record.forgive()
    record.forgive()

    assert record.multiplier == 0
