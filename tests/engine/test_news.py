"""Waits for endpoints: they end with news, with their time, and leave no waiter behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import NEVER
from svcmesh.engine.news import await_news, await_until, block_until, block_until_news
from svcmesh.engine.runtime import Runtime
from svcmesh.policy import Policy
from svcmesh.testing import FakeClock
from tests.engine.scripted import A, Stage

COLOURS = pytest.mark.parametrize("awaits", [False, True], ids=["blocking", "awaiting"])


def wait_for_news(stage: Stage, seen: int, until: float, *, awaits: bool) -> None:
    if awaits:
        asyncio.run(await_news(stage.cluster, seen, until))
    else:
        block_until_news(stage.cluster, seen, until)


@COLOURS
def test_news_since_the_look_ends_the_wait_at_once(awaits: bool) -> None:
    """It may be the last for long: who waited for the next one would wait for ever."""
    stage = Stage(Policy(), ())
    seen = stage.cluster.news
    stage.set(A)

    wait_for_news(stage, seen, NEVER, awaits=awaits)

    assert stage.clock.now() == 0.0
    assert stage.cluster._waiters == set()


@COLOURS
def test_without_news_the_wait_ends_with_its_time(awaits: bool) -> None:
    stage = Stage(Policy(), ())

    wait_for_news(stage, stage.cluster.news, 2.0, awaits=awaits)

    assert stage.clock.now() == 2.0
    assert stage.cluster._waiters == set()


@COLOURS
@pytest.mark.parametrize(("after", "holds"), [(2.0, True), (20.0, False)])
def test_a_condition_is_looked_at_again_after_all_news(awaits: bool, after: float, holds: bool) -> None:
    """Also after news that is none for the condition."""
    stage = Stage(Policy(), ())
    stage.clock.at(1.0, stage.set)
    stage.clock.at(after, lambda: stage.set(A))

    def offered() -> bool:
        return bool(stage.cluster.offered)

    found = (
        asyncio.run(await_until(stage.cluster, offered, 10.0)) if awaits else block_until(stage.cluster, offered, 10.0)
    )

    assert found is holds
    assert stage.clock.now() == min(after, 10.0)
    assert stage.cluster._waiters == set()


def test_a_loop_that_was_closed_with_somebody_waiting_keeps_nobody_else_from_the_news() -> None:
    cluster = Cluster("service", Runtime(FakeClock()))
    loop = asyncio.new_event_loop()
    left = loop.create_task(await_news(cluster, cluster.news, NEVER))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    told = threading.Event()
    cluster.add_waiter(told.set)

    cluster.wake()

    assert told.is_set()
    assert len(cluster._waiters) == 2
    left._log_destroy_pending = False  # type: ignore[attr-defined]  # it was left on purpose
