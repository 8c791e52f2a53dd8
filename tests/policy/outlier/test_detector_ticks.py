"""Ejection by ticks: what Envoy and gRPC make of the same interval, and their clocks, in numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.policy.outlier import OutlierDetection
from tests.policy.outlier.hosts import BROKEN, LATE, MISTAKE, A, B, Fleet

READINGS = [OutlierDetection.envoy, OutlierDetection.grpc]
SHARES = {"enforcing_success_rate": 0, "enforcing_failure_percentage": 100}
ONE = {"max_ejection_percent": 100, "consecutive_5xx": 1, "success_rate_request_volume": 10**6}
SPLIT = {"split_external_local_origin_errors": True, "consecutive_local_origin_failure": None}


def quiet(build=OutlierDetection.envoy, **changes) -> OutlierDetection:
    """Return settings by which nothing happens between ticks, and everybody may go."""
    in_a_row = {"consecutive_5xx": None, "consecutive_gateway_failure": None}
    return build(**{"max_ejection_percent": 100, **in_a_row, **changes})


def judged(fleet: Fleet) -> list[tuple[str, str]]:
    """Return who was ejected by the next tick, and why."""
    return [(ejection.address, ejection.reason) for ejection in fleet.tick().ejected]


class TestSuccessRate:
    @pytest.mark.parametrize("build", READINGS)
    def test_one_that_is_far_below_the_others_goes_at_the_end_of_the_interval(self, build):
        """50 of 100 among four without a failure: 50 is below 52, Envoy's own example."""
        fleet = Fleet(quiet(build))
        fleet.serve_rest(A, good=100)
        assert fleet.serve(A, good=50, bad=50, outcome=BROKEN) == []

        assert judged(fleet) == [(A, "success_rate")]

    @pytest.mark.parametrize(("factor", "found"), [(1749, [(A, "success_rate")]), (1750, []), (1900, [])])
    def test_the_threshold_itself_is_good_enough(self, factor, found):
        """Of 90, 95, 100, 100, 100 the mean is 97 and the deviation 4; less 1.75 of these that is 90."""
        fleet = Fleet(quiet(success_rate_stdev_factor=factor))
        fleet.serve_rest(A, good=95)
        fleet.serve(A, good=90, bad=10, outcome=BROKEN)
        fleet.serve(B, bad=5, outcome=BROKEN)
        for address in set(fleet.hosts) - {A, B}:
            fleet.serve(address, good=5)

        assert judged(fleet) == found

    @pytest.mark.parametrize("build", READINGS)
    def test_an_interval_is_judged_by_itself(self, build):
        """Twice sixty requests are not a hundred in one interval."""
        fleet = Fleet(quiet(build, enforcing_failure_percentage=0))
        fleet.serve_rest(A, good=60)
        fleet.serve(A, bad=60, outcome=BROKEN)
        assert judged(fleet) == []
        fleet.serve_rest(A, good=60)
        fleet.serve(A, bad=60, outcome=BROKEN)

        assert judged(fleet) == []

    def test_totals_that_were_there_before_are_no_requests(self):
        fleet = Fleet(quiet())
        for host in fleet.hosts.values():
            host.succeeded = 10**6
        fleet.detector = type(fleet.detector)(fleet.config, fleet.detector._rng, fleet.hosts)
        fleet.serve(A, bad=1, outcome=BROKEN)

        assert judged(fleet) == []
        assert not fleet.tick().ejected

    def test_mistakes_of_callers_are_successes_of_the_server(self):
        fleet = Fleet(quiet())
        fleet.serve_rest(A, good=100)
        fleet.serve(A, good=100, bad=50, outcome=MISTAKE)

        assert judged(fleet) == []

    def test_one_that_is_out_is_not_compared_by_envoy(self):
        """Five are needed, and without the one that is out they are four."""
        fleet = Fleet(quiet(consecutive_gateway_failure=1, enforcing_consecutive_gateway_failure=100))
        assert len(fleet.serve(B, bad=1)) == 1
        fleet.serve_rest(A, good=100)
        fleet.serve(A, bad=100, outcome=BROKEN)

        assert judged(fleet) == []

    def test_whom_both_algorithms_find_goes_once_to_envoy(self):
        fleet = Fleet(quiet(enforcing_failure_percentage=100))
        fleet.serve_rest(A, good=100)
        fleet.serve(A, bad=100, outcome=BROKEN)

        assert judged(fleet) == [(A, "success_rate")]
        assert fleet.detector.ejected[A].seconds == 30.0

    def test_the_percentage_holds_for_all_that_are_found(self):
        """Two of twenty are 10 %, a third would be 15: to gRPC as well, which looks before each."""
        for build in READINGS:
            fleet = Fleet(quiet(build, success_rate_stdev_factor=1000, max_ejection_percent=10), size=20)
            for number, address in enumerate(fleet.hosts):
                fleet.serve(address, *((0, 100, BROKEN) if number < 4 else (100,)))

            assert len(judged(fleet)) == 2

    def test_what_is_not_enforced_does_not_go(self):
        for draw, found in ((0.69, [(A, "success_rate")]), (0.70, [])):
            config = quiet(enforcing_success_rate=70)
            fleet = Fleet(config, draw=draw)
            fleet.serve_rest(A, good=100)
            fleet.serve(A, bad=100, outcome=BROKEN)

            assert judged(fleet) == found


class TestFailurePercentage:
    @pytest.mark.parametrize(("bad", "envoy", "grpc"), [(84, False, False), (85, True, False), (86, True, True)])
    def test_85_of_100_are_too_many_to_envoy_and_86_to_grpc(self, bad, envoy, grpc):
        for build, found in zip(READINGS, (envoy, grpc), strict=True):
            fleet = Fleet(quiet(build, **SHARES))
            fleet.serve_rest(A, good=50)
            fleet.serve(A, good=100 - bad, bad=bad, outcome=BROKEN)

            assert judged(fleet) == ([(A, "failure_percentage")] if found else [])

    def test_standard_settings_compare_where_a_number_of_endpoints_is_wanted(self):
        settings = {"failure_percentage_minimum_hosts": 3, "consecutive_gateway_failure": None}
        fleet = Fleet(OutlierDetection(**settings), size=3)
        fleet.serve(B, good=20)
        assert fleet.serve(A, bad=20) == []
        assert judged(fleet) == [], "only two had twenty requests"
        for address in fleet.hosts:
            fleet.serve(address, *((0, 20) if address == A else (20,)))

        assert judged(fleet) == [(A, "failure_percentage")]
        assert fleet.detector.next_return() == 25.0, "it is back after five seconds, and not with a tick"


class TestSplit:
    def test_what_got_no_answer_is_judged_apart(self):
        """50 of 100 without an answer: their success rate is that of connections, not of requests."""
        fleet = Fleet(quiet(**SPLIT))
        fleet.serve_rest(A, good=100)
        fleet.serve(A, good=50, bad=50, outcome=LATE)

        assert judged(fleet) == [(A, "success_rate_local_origin")]

    def test_a_bad_answer_is_a_connection_that_was_made(self):
        fleet = Fleet(quiet(**SPLIT))
        fleet.serve_rest(A, good=100)
        fleet.serve(A, good=50, bad=50, outcome=BROKEN)

        assert judged(fleet) == [(A, "success_rate")]

    def test_shares_are_apart_as_well(self):
        shares = {"enforcing_success_rate": 0, "enforcing_local_origin_success_rate": 0}
        config = quiet(**SPLIT, **shares, enforcing_failure_percentage_local_origin=100)
        fleet = Fleet(config)
        fleet.serve_rest(A, good=50)
        fleet.serve(A, good=15, bad=85, outcome=LATE)

        assert judged(fleet) == [(A, "failure_percentage_local_origin")]

    def test_bad_answers_are_successes_among_connections(self):
        """Half of them brought an answer, so their share of failures is 50 %, and not all of it."""
        shares = {"enforcing_success_rate": 0, "enforcing_local_origin_success_rate": 0}
        fleet = Fleet(quiet(**SPLIT, **shares, enforcing_failure_percentage_local_origin=100))
        fleet.serve_rest(A, good=100)
        fleet.serve(A, bad=50, outcome=BROKEN)
        fleet.serve(A, bad=50, outcome=LATE)

        assert judged(fleet) == []


class TestEnvoysClock:
    def test_an_ejection_ends_with_the_first_tick_after_its_time(self):
        """Its own tests: 305 s become 310 with ticks of 10 s."""
        fleet = Fleet(OutlierDetection.envoy(**ONE, base_ejection_time=305, max_ejection_time=305))
        (ejection,) = fleet.serve(A, bad=1)

        assert (ejection.seconds, ejection.reason) == (305.0, "consecutive_5xx")
        assert fleet.ticks_until_back(A) == 31

    def test_its_time_is_over_when_it_is_reached(self):
        fleet = Fleet(OutlierDetection.envoy(**ONE))
        fleet.serve(A, bad=1)

        assert fleet.ticks_until_back(A) == 3

    def test_each_ejection_is_longer_and_an_interval_in_forgives_one(self):
        fleet = Fleet(OutlierDetection.envoy(**ONE))
        seconds = []
        for _ in range(3):
            seconds += [ejection.seconds for ejection in fleet.serve(A, bad=1)]
            fleet.ticks_until_back(A)
        assert seconds == [30, 60, 90]

        fleet.tick(2)  # m goes from 3 to 1
        assert [ejection.seconds for ejection in fleet.serve(A, bad=1)] == [60]

    def test_the_tick_that_finds_it_anew_forgives_nothing(self):
        """Though an interval has passed by then. A running Envoy was seen to let one go for longer each time."""
        fleet = Fleet(quiet())
        seconds = []
        for _ in range(4):
            fleet.serve_rest(A, good=100)
            fleet.serve(A, bad=100, outcome=BROKEN)
            seconds += [ejection.seconds for ejection in fleet.tick().ejected]
            fleet.ticks_until_back(A)

        assert seconds == [30, 60, 90, 120]

    def test_the_tick_that_brings_it_back_forgives_nothing(self):
        fleet = Fleet(OutlierDetection.envoy(**ONE))
        fleet.serve(A, bad=1)
        fleet.ticks_until_back(A)

        assert [ejection.seconds for ejection in fleet.serve(A, bad=1)] == [60]

    def test_jitter_is_of_whole_milliseconds_and_drawn_when_it_goes(self):
        config = OutlierDetection.envoy(**ONE, max_ejection_time_jitter=5)
        (shortest,) = Fleet(config, draw=0.0).serve(A, bad=1)
        (longest,) = Fleet(config, draw=0.99999).serve(A, bad=1)
        fleet = Fleet(config, draw=0.5)
        (middle,) = fleet.serve(A, bad=1)

        assert (shortest.seconds, middle.seconds, longest.seconds) == (30.0, 32.5, 35.0)
        assert fleet.ticks_until_back(A) == 4

    def test_nothing_else_brings_it_back(self):
        fleet = Fleet(OutlierDetection.envoy(**ONE))
        fleet.serve(A, bad=1)

        assert fleet.detector.due(1e6) == []
        assert fleet.detector.next_return() is None
        assert not fleet.detector.connected(A)
        assert fleet.detector.resize(1) == []

    def test_but_a_health_check_that_it_passes_and_its_good_conduct_begins_then(self):
        """Out at 0 and back at 0: the ticks at 10 and 20 forgive, the first ejection and then nothing."""
        fleet = Fleet(OutlierDetection.envoy(**ONE))
        fleet.serve(A, bad=1)

        assert fleet.detector.passed_check(A, fleet.now)
        assert not fleet.detector.passed_check(A, fleet.now)
        assert fleet.detector.ejected == {}
        assert [ejection.seconds for ejection in fleet.serve(A, bad=1)] == [60]
        assert fleet.detector.passed_check(A, fleet.now)
        fleet.tick(2)
        assert [ejection.seconds for ejection in fleet.serve(A, bad=1)] == [30]

    def test_failures_while_it_is_out_are_forgotten_when_it_is_back(self):
        fleet = Fleet(OutlierDetection.envoy(max_ejection_percent=100))
        assert len(fleet.serve(A, bad=5)) == 1
        assert fleet.serve(A, bad=4) == []
        fleet.ticks_until_back(A)

        assert fleet.serve(A, bad=4) == []
        assert len(fleet.serve(A, bad=1)) == 1

    def test_what_found_no_room_has_to_be_found_anew(self):
        """Ten percent of five are nobody."""
        fleet = Fleet(OutlierDetection.envoy(max_ejection_percent=20))
        assert [ejection.address for ejection in fleet.serve(A, bad=5)] == [A]
        assert fleet.serve(B, bad=5) == []
        fleet.ticks_until_back(A)

        assert fleet.serve(B, bad=4) == []
        assert len(fleet.serve(B, bad=1)) == 1

    def test_the_last_one_may_go_where_the_percentage_says_so(self):
        fleet = Fleet(OutlierDetection.envoy(**ONE), size=2)

        assert len(fleet.serve(A, bad=1) + fleet.serve(B, bad=1)) == 2


class TestGrpcsClock:
    def fail_once(self, fleet: Fleet, **serve) -> list[str]:
        fleet.serve_rest(A, good=100)
        fleet.serve(A, outcome=BROKEN, **serve)
        return [f"{reason} {ejection.seconds:g}" for ejection in fleet.tick().ejected if (reason := ejection.reason)]

    def test_an_ejection_takes_a_tick_more_than_its_time(self):
        """After 30 s the time has not passed yet, but has just come."""
        fleet = Fleet(quiet(OutlierDetection.grpc))
        assert self.fail_once(fleet, good=50, bad=50) == ["success_rate 30"]

        assert fleet.ticks_until_back(A) == 4

    def test_whom_both_algorithms_find_goes_for_twice_as_long(self):
        """The second one does not ask whether the first has ejected it, in A50 as in its implementation in Go."""
        assert self.fail_once(Fleet(quiet(OutlierDetection.grpc)), bad=100) == [
            "success_rate 30",
            "failure_percentage 60",
        ]

    def test_calls_that_end_late_eject_it_anew(self):
        fleet = Fleet(quiet(OutlierDetection.grpc))
        self.fail_once(fleet, good=50, bad=50)

        assert self.fail_once(fleet, good=50, bad=50) == ["success_rate 60"]
        assert fleet.detector.ejected[A].began == 20.0

    def test_a_tick_in_forgives_one(self):
        fleet = Fleet(quiet(OutlierDetection.grpc))
        self.fail_once(fleet, good=50, bad=50)
        fleet.ticks_until_back(A)  # this very tick forgives nothing
        assert self.fail_once(fleet, good=50, bad=50) == ["success_rate 60"]
        fleet.ticks_until_back(A)
        fleet.tick(2)

        assert self.fail_once(fleet, good=50, bad=50) == ["success_rate 30"]


class TestIdle:
    def test_an_interval_without_calls_is_and_one_with_calls_is_not(self):
        fleet = Fleet(OutlierDetection.envoy())
        assert fleet.tick().idle
        fleet.serve(A, good=1)
        assert not fleet.tick().idle
        fleet.serve(A, bad=1)
        assert not fleet.tick().idle
        assert fleet.tick().idle

    def test_nor_is_one_in_which_somebody_is_out_or_not_yet_forgiven(self):
        fleet = Fleet(OutlierDetection.envoy(max_ejection_percent=100))
        fleet.serve(A, bad=5)
        busy = [fleet.tick().idle for _ in range(6)]

        assert busy == [False, False, False, True, True, True]

    def test_one_that_left_leaves_nothing(self):
        fleet = Fleet(OutlierDetection.envoy(max_ejection_percent=100))
        fleet.serve(A, good=10, bad=5)
        fleet.detector.forget(A)
        fleet.hosts[A] = type(fleet.hosts[A])()

        assert fleet.tick() == ([], [], True)

    def test_totals_that_seem_to_shrink_are_counted_once(self):
        """A call that is just ending may be missing from a total for a moment."""
        fleet = Fleet(OutlierDetection.envoy())
        fleet.hosts[A].succeeded = 10
        fleet.tick()
        fleet.hosts[A].succeeded = 9
        assert fleet.tick().idle
        fleet.hosts[A].succeeded = 10

        assert fleet.tick().idle


@settings(max_examples=40, deadline=None)
@given(
    build=st.sampled_from(READINGS),
    percent=st.integers(0, 100),
    size=st.integers(1, 12),
    draw=st.floats(0, 0.999),
    days=st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 120), st.integers(0, 120))), max_size=12),
)
def test_the_limit_holds_and_everybody_comes_back_at_the_promised_tick(build, percent, size, draw, days):
    config = build(max_ejection_percent=percent, max_ejection_time_jitter=3)
    fleet = Fleet(config, size, draw)
    promised: dict[str, float] = {}
    for day in days:
        for number, good, bad in day:
            address = list(fleet.hosts)[number % size]
            for ejection in fleet.serve(address, good, bad):
                promised[ejection.address] = ejection.until
        tick = fleet.tick()
        for address in tick.restored:
            until = promised.pop(address)
            assert until <= fleet.now < until + 1e-6 + 2 * config.interval
        promised |= {ejection.address: ejection.until for ejection in tick.ejected}
        assert set(promised) == set(fleet.detector.ejected)
        most = [count for count in range(size + 1) if count == 0 or config.allows(count - 1, size)]
        assert len(promised) <= max(most)
    fleet.tick(200)
    assert fleet.tick() == ([], [], True)
