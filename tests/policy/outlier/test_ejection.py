"""When an ejection is over."""

from __future__ import annotations

from svcmesh.policy.outlier import Ejection


def test_its_time_may_have_to_pass_or_to_have_passed():
    ejection = Ejection("10.0.0.1:80", 10.0, 30.0, "success_rate", refusing=False)

    assert ejection.until == 40.0
    assert [ejection.over(now, strictly=False) for now in (39.9, 40.0, 40.1)] == [False, True, True]
    assert [ejection.over(now, strictly=True) for now in (39.9, 40.0, 40.1)] == [False, False, True]


def test_the_last_digit_of_a_difference_does_not_count():
    """0.3 - 0.1 is less than 0.2 in doubles."""
    ejection = Ejection("10.0.0.1:80", 0.1, 0.2, "success_rate", refusing=False)

    assert ejection.over(0.3, strictly=False)
    assert not ejection.over(0.3, strictly=True)
