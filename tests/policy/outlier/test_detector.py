"""Ejection in the standard reading: at the clear sign, for longer each time, and never of the last endpoint."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from svcmesh.policy.outlier import OutlierDetection
from tests.policy.outlier.hosts import BROKEN, LATE, MISTAKE, REFUSED, UNAVAILABLE, A, B, C, Traffic, fail, make


class TestInARow:
    def test_the_fifth_failure_ejects(self):
        detector = make()
        assert fail(detector, times=4) is None
        ejection = fail(detector, times=1)

        assert (ejection.address, ejection.seconds, ejection.until) == (A, 5.0, 5.0)
        assert (ejection.reason, ejection.refusing) == ("consecutive_gateway_failure", False)
        assert detector.ejected == {A: ejection}

    def test_a_success_between_starts_the_run_anew(self):
        detector, traffic = make(failure_percentage_threshold=None), Traffic()
        for _ in range(3):
            assert fail(detector, times=4, traffic=traffic) is None
            traffic.succeeded += 1

        assert detector.ejected == {}

    def test_a_total_that_catches_up_is_no_success(self):
        """Of calls that fail together, some are missing from the total while the first of them is judged."""
        detector = make(failure_percentage_threshold=None)
        for missing in (1, 2, 3, 1):
            assert fail(detector, times=1, traffic=Traffic(9 - missing)) is None

        assert fail(detector, times=1, traffic=Traffic(9 - 2)) is not None

    def test_what_does_not_blame_the_endpoint_counts_for_nothing(self):
        assert fail(make(), times=50, outcome=MISTAKE) is None

    def test_runs_of_different_endpoints_are_apart(self):
        detector = make()
        fail(detector, A, 4)

        assert fail(detector, B, 4) is None

    def test_one_that_is_out_is_not_ejected_again(self):
        detector = make()
        fail(detector)

        assert fail(detector, times=10, now=1.0) is None
        assert detector.ejected[A].until == 5.0

    def test_refusing_means_that_no_connection_was_made_in_the_whole_run(self):
        assert fail(make(), outcome=REFUSED).refusing

        mixed = make()
        fail(mixed, times=1, now=0.0)
        assert not fail(mixed, times=4, now=0.0, outcome=REFUSED).refusing

    def test_an_answer_before_the_run_does_not_matter(self):
        detector, traffic = make(), Traffic()
        fail(detector, times=2, now=0.0, traffic=traffic)
        traffic.succeeded += 1

        assert fail(detector, times=5, now=1.0, outcome=REFUSED, traffic=traffic).refusing


class TestEachType:
    """What is counted as what; the kinds of failures are those of `svcmesh.policy.outlier.fault`."""

    def test_a_500_counts_among_5xx_and_breaks_a_run_of_gateway_failures(self):
        detector, traffic = make(consecutive_5xx=6, failure_percentage_threshold=None), Traffic()
        assert fail(detector, times=4, traffic=traffic) is None
        traffic.succeeded = traffic.faulty = 1
        assert fail(detector, times=1, outcome=BROKEN, traffic=traffic) is None
        ejection = fail(detector, times=1, traffic=traffic)

        assert ejection.reason == "consecutive_5xx"

    def test_a_500_is_nothing_to_who_does_not_ask_for_5xx(self):
        assert fail(make(), times=50, outcome=BROKEN) is None

    def test_500s_that_come_together_are_no_good_answers_between(self):
        """Each is counted as faulty first and as ended then, so a total may lack some while another one is judged."""
        detector = make(consecutive_5xx=5, consecutive_gateway_failure=None, failure_percentage_threshold=None)
        for faulty, ended in ((1, 1), (4, 2), (4, 3), (5, 5)):
            traffic = Traffic(succeeded=9 + ended, faulty=faulty)
            assert fail(detector, times=1, outcome=BROKEN, traffic=traffic) is None

        assert fail(detector, times=1, outcome=BROKEN, traffic=Traffic(14, faulty=5)) is not None

    def test_a_good_answer_breaks_a_run_of_5xx(self):
        detector, traffic = make(consecutive_5xx=3, consecutive_gateway_failure=None), Traffic()
        for _ in range(4):
            assert fail(detector, times=2, traffic=traffic) is None
            traffic.succeeded += 1

    def test_of_both_the_gateways_is_named(self):
        assert fail(make(consecutive_5xx=5)).reason == "consecutive_gateway_failure"

    def test_what_got_no_answer_is_a_gateway_failure_unless_it_is_counted_apart(self):
        assert fail(make(), outcome=LATE).reason == "consecutive_gateway_failure"

        split = make(split_external_local_origin_errors=True)
        assert fail(split, outcome=LATE).reason == "consecutive_local_origin_failure"

    def test_apart_means_that_neither_run_breaks_the_other_but_an_answer_is_one(self):
        """To a server that answered, if badly, there was a connection."""
        split = make(split_external_local_origin_errors=True, failure_percentage_threshold=None)
        fail(split, times=4)
        assert fail(split, times=4, outcome=LATE) is None
        assert fail(split, times=1).reason == "consecutive_gateway_failure"

        other = make(split_external_local_origin_errors=True, failure_percentage_threshold=None)
        fail(other, times=4, outcome=REFUSED)
        fail(other, times=1)
        assert fail(other, times=4, outcome=REFUSED) is None
        assert fail(other, times=1, outcome=REFUSED).reason == "consecutive_local_origin_failure"

    def test_a_success_breaks_a_run_without_answers(self):
        split, traffic = make(split_external_local_origin_errors=True, failure_percentage_threshold=None), Traffic()
        for _ in range(3):
            assert fail(split, times=4, outcome=LATE, traffic=traffic) is None
            traffic.succeeded += 1

    def test_what_is_found_and_not_enforced_has_to_be_found_anew(self):
        detector = make(draw=0.3, enforcing_consecutive_gateway_failure=30, failure_percentage_threshold=None)
        assert fail(detector, times=100) is None

        assert fail(make(draw=0.29, enforcing_consecutive_gateway_failure=30)) is not None

    def test_nor_is_a_share(self):
        detector = make(draw=0.5, consecutive_gateway_failure=None, enforcing_failure_percentage=50)

        assert fail(detector, times=200) is None

    def test_where_one_type_is_not_enforced_the_other_decides(self):
        detector = make(consecutive_5xx=5, enforcing_consecutive_gateway_failure=0)

        assert fail(detector).reason == "consecutive_5xx"


class TestByShare:
    def test_eighty_five_percent_of_twenty_ejects(self):
        detector, traffic = make(consecutive_gateway_failure=None), Traffic(succeeded=3)
        assert fail(detector, times=16, traffic=traffic) is None
        ejection = fail(detector, times=1, traffic=traffic)

        assert ejection.reason == "failure_percentage"

    def test_less_does_not(self):
        assert fail(make(consecutive_gateway_failure=None), times=22, traffic=Traffic(succeeded=4)) is None

    def test_nor_do_fewer_requests(self):
        assert fail(make(consecutive_gateway_failure=None), times=19) is None

    def test_successes_before_the_interval_do_not_count(self):
        traffic = Traffic(succeeded=1000, old=1000)

        assert fail(make(consecutive_gateway_failure=None), times=20, traffic=traffic) is not None

    def test_failures_before_the_interval_do_not_count(self):
        detector = make(consecutive_gateway_failure=None)
        fail(detector, times=19, now=0.0)

        assert fail(detector, times=1, now=30.0) is None

    def test_refusing_means_that_no_connection_was_made_in_the_interval(self):
        detector = make(consecutive_gateway_failure=None)
        fail(detector, times=1, now=0.0)
        assert not fail(detector, times=19, now=5.0, outcome=REFUSED).refusing

        assert fail(make(consecutive_gateway_failure=None), times=20, outcome=REFUSED).refusing


class TestHowLong:
    def test_each_ejection_is_longer_up_to_the_longest(self):
        detector, now, seconds = make(max_ejection_time=20), 0.0, []
        for _ in range(6):
            seconds.append(fail(detector, now=now).seconds)
            now = detector.next_return()
            detector.due(now)

        assert seconds == [5, 10, 15, 20, 20, 20]

    def test_each_clean_interval_forgives_one(self):
        detector, now = make(), 0.0
        for _ in range(3):
            fail(detector, now=now)
            now = detector.next_return()
            detector.due(now)

        assert (
            fail(detector, now=now + 20.0).seconds == 10
        )  # 15 was the third; two intervals forgive two, this adds one

    def test_failures_that_come_slowly_are_no_good_conduct(self):
        """An open breaker lets one probe through every five seconds: its endpoint fails as before, only more slowly."""
        detector, now, seconds = make(), 0.0, []
        for _ in range(4):
            found = None
            while found is None:
                found = fail(detector, times=1, now=now)
                now += 5.0
            seconds.append(found.seconds)
            now = detector.next_return()
            detector.due(now)

        assert seconds == [5, 10, 15, 20]

    def test_after_long_good_conduct_it_is_the_first_again(self):
        detector = make()
        fail(detector)
        detector.due(5.0)

        assert fail(detector, now=1e6).seconds == 5

    def test_the_multiplier_stops_where_more_would_change_nothing(self):
        """Else one that was down for a day would need a day of good conduct."""
        detector, now = make(base_ejection_time=5, max_ejection_time=10), 0.0
        for _ in range(50):
            fail(detector, now=now)
            now = detector.next_return()
            detector.due(now)

        assert fail(detector, now=now + 30.0).seconds == 5

    def test_up_to_a_tenth_is_added_by_chance(self):
        assert fail(make(draw=0.5)).seconds == 5.25

    def test_or_what_envoys_field_says(self):
        assert fail(make(draw=0.5, max_ejection_time_jitter=2.0)).seconds == 6.0
        assert fail(make(draw=0.5, max_ejection_time_jitter=0)).seconds == 5.0


class TestReturn:
    def test_time_restores(self):
        detector = make()
        fail(detector, A, now=0.0)
        fail(detector, B, now=1.0)

        assert detector.next_return() == 5.0
        assert detector.due(4.9) == []
        assert detector.due(5.0) == [A]
        assert detector.due(99.0) == [B]
        assert detector.next_return() is None

    def test_counting_starts_afresh(self):
        detector = make()
        fail(detector)
        detector.due(5.0)

        assert fail(detector, times=4, now=6.0) is None

    def test_a_connection_ends_the_ejection_of_one_that_refused_them(self):
        detector = make()
        fail(detector, outcome=REFUSED)

        assert detector.connected(A)
        assert detector.ejected == {}
        assert not detector.connected(A)

    def test_but_not_of_one_that_answered_badly(self):
        detector = make()
        fail(detector)

        assert not detector.connected(A)
        assert A in detector.ejected

    def test_a_health_check_that_it_passes_ends_it_only_where_that_is_wanted(self):
        assert fail(detector := make(), now=0.0) is not None
        assert not detector.passed_check(A, 1.0)

        assert fail(detector := make(successful_active_health_check_uneject_host=True)) is not None
        assert detector.passed_check(A, 1.0)
        assert not detector.passed_check(B, 1.0)
        assert fail(detector, now=2.0, times=4) is None, "it counts afresh"
        assert fail(detector, now=2.0, times=1).seconds == 10

    def test_one_that_left_starts_afresh(self):
        detector = make()
        fail(detector)
        detector.forget(A)

        assert detector.ejected == {}
        assert fail(detector, times=4, now=1.0) is None
        assert fail(detector, times=1, now=1.0).seconds == 5

    def test_forgetting_a_stranger_is_nothing(self):
        detector = make()
        fail(detector)
        fail(detector, B, times=4)
        before = dict(detector.ejected)
        detector.forget("10.9.9.9:1")

        assert detector.ejected == before
        assert list(before) == [A]
        assert fail(detector, B, times=1).seconds == 5  # the fifth in a row: what it had counted was not forgotten

    def test_when_others_left_those_due_soonest_come_back(self):
        detector = make()
        for number, address in enumerate((A, B, C)):
            fail(detector, address, now=float(number), population=4)

        assert detector.resize(4) == []
        assert detector.resize(3) == [A]
        assert detector.resize(1) == [B, C]


class TestHowMany:
    def test_the_last_endpoint_stays(self):
        detector = make()
        fail(detector, A, population=2)

        assert fail(detector, B, times=100, population=2) is None

    def test_one_that_could_not_go_goes_with_its_next_failure_once_there_is_room(self):
        detector = make()
        fail(detector, A, population=2)
        fail(detector, B, times=20, population=2)
        detector.due(5.0)

        assert fail(detector, B, times=1, now=5.0, population=2) is not None


class Laws(RuleBasedStateMachine):
    """Whatever fails, joins and leaves: the last endpoint is never ejected, and every ejection ends."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = make(draw=0.9)
        self.now, self.here, self.traffic = 0.0, [f"10.0.0.{n}:80" for n in range(4)], {}

    def traffic_of(self, address: str) -> Traffic:
        return self.traffic.setdefault(address, Traffic())

    @rule(index=st.integers(0, 30), times=st.integers(1, 6), outcome=st.sampled_from([UNAVAILABLE, REFUSED, MISTAKE]))
    def fail(self, index, times, outcome):
        if self.here:
            address = self.here[index % len(self.here)]
            fail(self.detector, address, times, self.now, outcome, len(self.here), self.traffic_of(address))

    @rule(index=st.integers(0, 30))
    def succeed(self, index):
        if self.here:
            self.traffic_of(self.here[index % len(self.here)]).succeeded += 1

    @rule(index=st.integers(0, 30))
    def leave(self, index):
        if self.here:
            self.detector.forget(self.here.pop(index % len(self.here)))
            self.detector.resize(len(self.here))

    @rule(number=st.integers(0, 20))
    def join(self, number):
        address = f"10.0.0.{number}:80"
        if address not in self.here:
            self.here.append(address)
            self.traffic.pop(address, None)
            self.detector.resize(len(self.here))  # ten where there were nine: half, no longer all but one

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds
        self.detector.due(self.now)

    @rule(index=st.integers(0, 30))
    def connect(self, index):
        if self.here:
            self.detector.connected(self.here[index % len(self.here)])

    @invariant()
    def somebody_is_left(self):
        assert set(self.detector.ejected) <= set(self.here)
        assert len(self.detector.ejected) <= OutlierDetection().most(len(self.here))
        assert not self.here or len(self.detector.ejected) < len(self.here)

    def teardown(self):
        self.detector.due(self.now + 331)
        assert self.detector.ejected == {}


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=60, stateful_step_count=30)


@given(pauses=st.lists(st.floats(0, 400), max_size=20), draw=st.floats(0, 0.999))
def test_no_ejection_is_shorter_than_the_base_or_longer_than_the_longest_and_a_tenth(pauses, draw):
    detector, now = make(draw=draw), 0.0
    for pause in pauses:
        now += pause
        detector.due(now)
        ejection = fail(detector, now=now)
        if ejection is not None:
            assert 5.0 <= ejection.seconds <= 330.0
            assert ejection.until == now + ejection.seconds


def test_endpoints_are_counted_only_where_one_may_be_ejected():
    """There may be ten thousand, and a failure is counted under a lock."""
    detector, counted = make(), []

    def population():
        counted.append(1)
        return 3

    for _ in range(4):
        detector.failed(A, Traffic(), UNAVAILABLE, 0.0, population)
    assert not counted
    assert detector.failed(A, Traffic(), UNAVAILABLE, 0.0, population) is not None
    assert len(counted) == 1
