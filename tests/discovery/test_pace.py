"""A bucket lets a burst through and then holds everybody to its pace."""

from __future__ import annotations

from svcmesh.core.clock import sleep_until
from svcmesh.discovery.pace import Bucket
from svcmesh.testing.sim import run, virtual_clock


def instants(*pauses, burst=3, seconds=2.0):
    """Return when each token was had; before each one so many seconds were waited."""

    async def main():
        clock = virtual_clock()
        bucket = Bucket(clock, burst, seconds)
        found = []
        for pause in pauses:
            await sleep_until(clock, clock.now() + pause)
            await bucket.take()
            found.append(round(clock.now(), 6))
        return found

    return run(main())


def test_a_burst_is_free_and_the_rest_comes_at_the_pace():
    assert instants(0, 0, 0, 0, 0) == [0, 0, 0, 2, 4]


def test_a_pause_fills_it_again_but_never_above_its_size():
    assert instants(0, 0, 0, 100, 0, 0, 0) == [0, 0, 0, 100, 100, 100, 102]
