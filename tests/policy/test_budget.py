"""A budget bounds retries by the calls they belong to, over every stretch of time."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.policy.budget import Budget, RetryBudget


def withdraw_all(budget: Budget, now: float) -> int:
    count = 0
    while budget.try_withdraw(now):
        count += 1
    return count


def test_a_new_budget_holds_the_trickle_of_one_window():
    assert withdraw_all(Budget(RetryBudget(), 50.0), 50.0) == 100


def test_calls_bring_their_share():
    budget = Budget(RetryBudget(ratio=0.2, per_second=0), 0.0)
    budget.calls += 100

    assert budget.tokens(1.0) == pytest.approx(20)
    assert withdraw_all(budget, 1.0) == 20


def test_a_retry_is_paid_once():
    budget = Budget(RetryBudget(ratio=0.5, per_second=0), 0.0)
    budget.calls += 2

    assert [budget.try_withdraw(0.1), budget.try_withdraw(0.1)] == [True, False]


def test_nothing_is_taken_by_a_refusal():
    budget = Budget(RetryBudget(ratio=0.3, per_second=0), 0.0)
    budget.calls += 3
    assert not budget.try_withdraw(0.1)
    budget.calls += 1

    assert budget.try_withdraw(0.1)


def test_tokens_expire_after_the_window():
    """What was earned yesterday must not pay for a storm today."""
    budget = Budget(RetryBudget(ratio=0.2, per_second=0, window=10), 0.0)
    budget.calls += 1000
    assert budget.tokens(0.5) == pytest.approx(200)

    assert budget.tokens(9.0) == pytest.approx(200)
    assert budget.tokens(11.0) == 0


def test_spent_tokens_come_back_after_the_window():
    budget = Budget(RetryBudget(ratio=0, per_second=1, window=10), 0.0)
    assert withdraw_all(budget, 0.0) == 10
    assert not budget.try_withdraw(8.0)

    assert withdraw_all(budget, 11.0) == 10


def test_calls_of_a_long_unwatched_time_count_by_the_share_of_the_window():
    budget = Budget(RetryBudget(ratio=0.2, per_second=0, window=10), 0.0)
    budget.calls += 36_000  # ten a second for an hour

    assert budget.tokens(3600.0) == pytest.approx(0.2 * 10 * 10, rel=0.11)


def test_a_thread_with_an_older_instant_does_no_harm():
    budget = Budget(RetryBudget(), 0.0)
    budget.try_withdraw(20.0)

    assert budget.try_withdraw(5.0)
    assert budget.tokens(20.0) == 98


def test_nothing_allowed_is_nothing_given():
    assert withdraw_all(Budget(RetryBudget(ratio=0, per_second=0), 0.0), 100.0) == 0


STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 200), st.integers(0, 40)), max_size=40
)  # (seconds passed, calls made, retries asked for)


@given(
    ratio=st.floats(0, 1),
    per_second=st.floats(0, 20),
    window=st.floats(0.5, 30),
    steps=STEPS,
)
def test_retries_never_exceed_their_share(ratio, per_second, window, steps):
    """Over any sequence: retries <= ratio * calls + per_second * (time + window)."""
    budget, now, retries = Budget(RetryBudget(ratio=ratio, per_second=per_second, window=window), 0.0), 0.0, 0
    for seconds, calls, asked in steps:
        now += seconds
        budget.calls += calls
        retries += sum(budget.try_withdraw(now) for _ in range(asked))
        assert retries <= ratio * budget.calls + per_second * (now + window) + 1e-6


@given(per_second=st.integers(1, 20), steps=st.lists(st.integers(0, 30), max_size=30))
def test_the_trickle_is_there_whatever_the_traffic(per_second, steps):
    """After a whole quiet window, a window's trickle of retries can be paid."""
    budget, now = Budget(RetryBudget(ratio=0, per_second=per_second, window=10), 0.0), 0.0
    for asked in steps:
        now += 1
        for _ in range(asked):
            budget.try_withdraw(now)

    assert withdraw_all(budget, now + 11) == per_second * 10


def test_threads_together_get_no_more_than_there_is():
    budget = Budget(RetryBudget(ratio=0, per_second=100, window=10), 0.0)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(withdraw_all(budget, 1.0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(got) == 1000


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ratio": -0.1}, "ratio"),
        ({"ratio": 1.1}, "ratio"),
        ({"ratio": 20}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"per_second": -1}, "per_second"),
        ({"per_second": float("inf")}, "per_second"),
        ({"window": 0}, "window"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=f"^{named} must"):
        RetryBudget(**settings)
