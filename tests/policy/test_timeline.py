"""A timeline says what a total was at an instant, to within a tick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.policy.timeline import Timeline


def test_nothing_noted_is_nothing_counted():
    assert Timeline(10, 1).at(5) == 0


def test_the_total_at_an_instant_is_that_of_the_newest_sample_before_it():
    timeline = Timeline(10, 1)
    for now, total in ((0, 0), (1, 5), (2, 9)):
        timeline.roll(now, total)

    assert [timeline.at(instant) for instant in (0, 0.5, 1, 1.9, 2, 2.5)] == [0, 0, 5, 5, 9, 9]


def test_before_the_first_sample_the_total_was_what_that_one_says():
    """What was counted before anybody looked lies outside every window."""
    timeline = Timeline(10, 1)
    timeline.roll(7, 40)

    assert timeline.at(3) == 40


def test_a_second_sample_within_a_tick_is_not_taken():
    timeline = Timeline(10, 1)
    timeline.roll(0, 0)
    timeline.roll(0.9, 100)

    assert timeline.at(0.95) == 0
    assert timeline.due == 1


def test_a_quiet_gap_puts_all_it_added_into_its_first_tick():
    """A thousand successes in a second and then silence are no successes of the last thirty seconds."""
    timeline = Timeline(30, 3)
    timeline.roll(0, 0)
    timeline.roll(100, 1000)

    assert timeline.at(100 - 30) == 1000
    assert timeline.at(2) == 0


def test_the_gap_begins_a_whole_tick_after_the_sample():
    timeline = Timeline(10, 1)
    timeline.roll(0, 0)
    timeline.roll(5, 7)

    assert [timeline.at(0.99), timeline.at(1.0)] == [0, 7]


def test_after_the_last_sample_the_total_is_what_that_one_says():
    timeline = Timeline(10, 1)
    timeline.roll(0, 7)

    assert timeline.at(9) == 7


def test_a_total_that_a_racing_thread_reported_late_does_not_shrink():
    timeline = Timeline(10, 1)
    timeline.roll(0, 10)
    timeline.roll(1, 9)

    assert timeline.at(1) == 10


@given(steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), max_size=60), back=st.floats(0, 10))
def test_a_window_is_counted_to_within_a_tick(steps, back):
    """For additions noted before they are made, `at` lies between the true totals a tick before and after."""
    timeline, tick, now, total = Timeline(10, 1), 1.0, 0.0, 0
    added: list[tuple[float, int]] = []
    for pause, more in steps:
        now += pause
        timeline.roll(now, total)
        added.append((now, more))
        total += more
    if not added:
        return
    timeline.roll(now + tick, total)
    instant = max(now + tick - back, added[0][0])

    def true_total(at: float) -> int:
        return sum(more for when, more in added if when <= at)

    assert true_total(instant - tick - 1e-6) <= timeline.at(instant) <= true_total(instant + tick + 1e-6)


@given(pauses=st.lists(st.floats(0, 3), max_size=300))
def test_memory_is_bounded_by_the_horizon(pauses):
    timeline, now = Timeline(10, 1), 0.0
    for number, pause in enumerate(pauses):
        now += pause
        timeline.roll(now, number)

    assert len(timeline._instants) <= 12
