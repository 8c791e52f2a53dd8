"""Which snapshot is put in force when: first and additions at once, removals after the burst, empty ones last."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.clock import sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.debounce import Debouncer, DebounceTimes
from svcmesh.testing.sim import run, virtual_clock


def snapshot(text, *, sure=False, policy=None, ordered=False):
    """Return a snapshot of one endpoint per letter."""
    endpoints = tuple(Endpoint(f"{letter}:1") for letter in text)
    return Snapshot(endpoints, authoritative=sure, policy=policy, ordered=ordered)


def text(found):
    return "".join(endpoint.host for endpoint in found.endpoints)


def published(*offers, until=100.0, times=None, refuse=()):
    """Offer ``(instant, letters or Snapshot or None)`` (None: the source failed); return ``(instant, letters)``."""
    seen = []
    errors = []

    async def main():
        clock = virtual_clock()

        def publish(found):
            if text(found) in refuse:
                raise RuntimeError(text(found))
            seen.append((round(clock.now(), 3), text(found)))

        debouncer = Debouncer(
            publish, errors.append, clock=clock, loop=asyncio.get_running_loop(), times=times or DebounceTimes()
        )
        for instant, offer in offers:
            await sleep_until(clock, instant)
            if offer is None:
                debouncer.distrust()
            else:
                debouncer.offer(snapshot(offer) if isinstance(offer, str) else offer)
        await sleep_until(clock, until)
        debouncer.close()

    run(main())
    assert [str(error) for error in errors] == [letters for letters in refuse if errors]
    return seen


def test_the_first_is_published_at_once():
    assert published((1, "ab")) == [(1, "ab")]


def test_even_the_first_empty_one():
    """There is nothing to protect, and who waits for a first answer gets one."""
    assert published((1, "")) == [(1, "")]


def test_nothing_new_is_not_published():
    assert published((1, "ab"), (2, "ab"), (3, "ba")) == [(1, "ab")]


def test_another_order_is_news_where_the_source_says_that_it_means_something():
    near = [(instant, snapshot(letters, ordered=True)) for instant, letters in [(1, "ab"), (2, "ba"), (3, "ba")]]

    assert published(*near) == [(1, "ab"), (2.05, "ba")]


def test_an_order_that_changed_and_changed_back_is_none():
    near = [(instant, snapshot(letters, ordered=True)) for instant, letters in [(1, "ab"), (2, "ba"), (2.01, "ab")]]

    assert published(*near) == [(1, "ab")]


def test_another_policy_is_news():
    assert published((1, "a"), (2, snapshot("a", policy="p"))) == [(1, "a"), (2.05, "a")]


def test_an_addition_after_a_quiet_time_does_not_wait():
    assert published((1, "a"), (2, "ab")) == [(1, "a"), (2, "ab")]


def test_additions_in_a_burst_are_collected():
    assert published((1, "a"), (1.01, "ab"), (1.02, "abc"), (1.03, "abcd")) == [(1, "a"), (1.05, "abcd")]


def test_a_removal_waits_for_the_end_of_the_burst():
    assert published((1, "abc"), (2, "ab"), (2.04, "a")) == [(1, "abc"), (2.09, "a")]


def test_a_burst_that_does_not_end_is_cut_after_a_second():
    burst = [(round(2 + n * 0.04, 2), "a" if n % 2 else "b") for n in range(40)]

    seen = published((1, "ab"), *burst)

    assert seen[1][0] == 3.0
    assert seen[-1][1] == "a"


def test_what_changes_and_changes_back_is_no_news():
    assert published((1, "ab"), (2, "a"), (2.03, "ab")) == [(1, "ab")]


def test_a_sure_empty_answer_is_only_debounced():
    assert published((1, "ab"), (2, snapshot("", sure=True))) == [(1, "ab"), (2.05, "")]


def test_an_unsure_empty_answer_is_believed_when_it_has_lasted():
    assert published((1, "ab"), (2, "")) == [(1, "ab"), (32, "")]


def test_or_when_it_has_come_again_three_times():
    assert published((1, "ab"), (2, ""), (4, ""), (6, ""), (8, "")) == [(1, "ab"), (8, "")]


def test_answers_on_each_others_heels_confirm_nothing():
    assert published((1, "ab"), (2, ""), (2.1, ""), (2.2, ""), (2.3, ""), (2.4, "")) == [(1, "ab"), (32, "")]


def test_a_good_answer_takes_an_empty_one_back():
    assert published((1, "ab"), (2, ""), (20, "ab"), (21, "")) == [(1, "ab"), (51, "")]


def test_a_failure_confirms_nothing():
    """The source must go on saying it: 30 s of a registry that is down are not 30 s of an empty service."""
    assert published((1, "ab"), (2, ""), (20, None)) == [(1, "ab")]


def test_after_an_empty_one_was_believed_the_next_is_no_news():
    assert published((1, "ab"), (2, ""), (40, ""), (50, "a")) == [(1, "ab"), (32, ""), (50, "a")]


def test_a_change_that_waits_is_published_although_an_empty_answer_follows():
    assert published((1, "ab"), (2, "a"), (2.01, "")) == [(1, "ab"), (2.05, "a"), (32.01, "")]


def test_nothing_is_published_after_the_end():
    assert published((1, "ab"), (2, "a"), until=2.01) == [(1, "ab")]


@pytest.mark.parametrize("instant", [2, 2.02])
def test_what_publishing_raises_is_told_and_the_next_is_tried(instant):
    assert published((1, "ab"), (instant, "a"), (3, "b"), refuse=("a",)) == [(1, "ab"), (3.05, "b")]


changes = st.lists(st.tuples(st.floats(0.001, 3.0), st.sampled_from(["", "a", "b", "ab", "abc", "c"])), max_size=12)


@given(changes)
def test_the_laws(steps):
    """Never the same twice, never later than a second (30 s if empty), and the last word is the source's."""
    now, offers = 1.0, [(1.0, "ab")]
    for pause, letters in steps:
        now += pause
        offers.append((now, letters))

    seen = published(*offers, until=now + 40.0)

    assert all(one[1] != other[1] for one, other in pairwise(seen))
    assert seen[-1][1] == offers[-1][1]
    assert seen[-1][0] <= now + (30.01 if not offers[-1][1] else 1.01)
