"""What type checkers must say about svcmesh, as its users see it: mypy strict and pyright read this, nothing runs it.

`assert_type` fails the check when a type is wider or narrower than promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from svcmesh.core.deadline import deadline, in_context, remaining
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.core.info import CallInfo, info


def charge(order: str, *, amount: int = 1) -> float:
    """Stand for a user's function."""
    return len(order) * float(amount)


def ambient_deadline() -> None:
    """A budget is a context manager that returns itself; a bound function keeps its signature."""
    with deadline(2.0) as budget:
        assert_type(budget, deadline)
        assert_type(remaining(), float | None)
    bound = in_context(charge)
    assert_type(bound("order", amount=2), float)
    callback: Callable[[], float] = in_context(lambda: 1.0)
    assert_type(callback(), float)


def endpoints() -> None:
    """Fields of an endpoint have the types that they were given."""
    endpoint = Endpoint("10.0.0.1:8080", weight=2, locality=Locality("eu"), metadata={"version": 3})
    assert_type(endpoint.address, str)
    assert_type(endpoint.port, int)
    assert_type(endpoint.health, Health)
    assert_type(endpoint.locality, Locality | None)


def story_of_a_call(error: Exception) -> None:
    """`info` takes anything and returns a story or None."""
    story = info(error)
    assert_type(story, CallInfo | None)
    if story is not None:
        assert_type(story.attempts, int)
        assert_type(story.endpoints, tuple[Endpoint, ...])
