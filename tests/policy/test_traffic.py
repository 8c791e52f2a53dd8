"""Failures in a row, where successes are only a total that grows."""

from __future__ import annotations

from svcmesh.policy.traffic import Run


def test_a_success_begins_a_new_run() -> None:
    run = Run()
    for now in (1.0, 2.0):
        run.count(5, now)
    assert (run.length, run.began) == (2, 1.0)

    run.count(6, 3.0)

    assert (run.length, run.began) == (1, 3.0)


def test_a_total_that_was_short_for_a_moment_and_catches_up_is_no_success() -> None:
    """Ends are counted in two steps, and a failure may be judged between them."""
    run = Run()
    for succeeded in (7, 6, 7):
        run.count(succeeded, 1.0)

    assert run.length == 3
