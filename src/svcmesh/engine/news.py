"""Waiting until something happens to the endpoints of a service, by blocking and by awaiting.

What happens between a look at the endpoints and the wait must not be missed, since it may be the last for long. So
whoever waits says which count of `Cluster.news` it has seen, and that count is compared once the waiter stands.
Waits end with a closed mesh too, which is news.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from svcmesh.core.clock import wait_for
from svcmesh.core.wakeup import wakeup
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import NEVER


def block_until_news(cluster: Cluster, seen: int, until: float) -> None:
    """Block until ``cluster.news`` is not ``seen``, at most to the instant ``until`` (infinite: without a limit)."""
    changed = Event()
    cluster.add_waiter(changed.set)
    try:
        if cluster.news == seen:
            cluster.runtime.clock.wait(changed, None if until == NEVER else until)
    finally:
        cluster.remove_waiter(changed.set)


async def await_news(cluster: Cluster, seen: int, until: float) -> None:
    """Await what `block_until_news` blocks for."""
    changed, wake = wakeup()
    cluster.add_waiter(wake)
    try:
        if cluster.news == seen:
            await wait_for(cluster.runtime.clock, changed, None if until == NEVER else until)
    finally:
        cluster.remove_waiter(wake)


def block_until(cluster: Cluster, holds: Callable[[], bool], until: float) -> bool:
    """Block until ``holds`` says so, which is asked at once and after all news; return False at the instant ``until``.

    What ``holds`` raises comes through.
    """
    while True:
        seen = cluster.news
        if holds():
            return True
        if cluster.runtime.clock.now() >= until:
            return False
        block_until_news(cluster, seen, until)


async def await_until(cluster: Cluster, holds: Callable[[], bool], until: float) -> bool:
    """Await what `block_until` blocks for."""
    while True:
        seen = cluster.news
        if holds():
            return True
        if cluster.runtime.clock.now() >= until:
            return False
        await await_news(cluster, seen, until)
