"""All watches of a registry share one timer, and only those wake that have news."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.local.rounds import POLL, Rounds
from svcmesh.testing.sim import run, virtual_clock


class Scripted:
    """A scan whose polls answer what a test put in."""

    def __init__(self):
        self.looks = 0
        self.answer = None

    def poll(self):
        self.looks += 1
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        return answer


NEWS = (Endpoint("a:1"),)


def scene(script):
    """Run ``script(rounds, sleep)`` in virtual time."""

    async def main():
        clock = virtual_clock()

        async def sleep(seconds):
            await sleep_until(clock, clock.now() + seconds)

        await script(Rounds(clock), sleep)

    run(main())


def test_news_come_with_the_next_round():
    async def script(rounds, sleep):
        scan = Scripted()
        waiting = asyncio.ensure_future(rounds.news(scan))
        await sleep(10 * POLL + 0.01)
        assert not waiting.done()
        assert scan.looks == 10
        scan.answer = NEWS
        await sleep(POLL)
        assert waiting.result() == NEWS

    scene(script)


def test_an_empty_answer_is_news():
    async def script(rounds, sleep):
        scan = Scripted()
        scan.answer = ()
        assert await rounds.news(scan) == ()

    scene(script)


@pytest.mark.parametrize("error", [DiscoveryError("gone"), ZeroDivisionError("bug")])
def test_a_failing_scan_disturbs_no_other(error):
    async def script(rounds, sleep):
        scans = [Scripted() for _ in range(3)]
        waiting = [asyncio.ensure_future(rounds.news(scan)) for scan in scans]
        await sleep(0.01)
        scans[0].answer = error
        await sleep(POLL)
        with pytest.raises(type(error)):
            waiting[0].result()
        scans[1].answer = scans[2].answer = NEWS
        await sleep(POLL)
        assert [task.result() for task in waiting[1:]] == [NEWS, NEWS]

    scene(script)


def test_who_is_cancelled_is_looked_at_no_more_and_others_go_on():
    async def script(rounds, sleep):
        one, other = Scripted(), Scripted()
        waiting = [asyncio.ensure_future(rounds.news(scan)) for scan in (one, other)]
        await sleep(POLL + 0.01)
        waiting[0].cancel()
        await sleep(10 * POLL)
        assert one.looks == 1
        assert other.looks == 11
        waiting[1].cancel()
        await asyncio.wait(waiting)

    scene(script)


def test_without_anybody_waiting_nothing_ticks():
    async def script(rounds, sleep):
        scan = Scripted()
        scan.answer = NEWS
        await rounds.news(scan)
        assert virtual_clock().next_at() is None

    scene(script)


def test_on_another_loop_it_begins_anew():
    """A forked child inherits a timer that belongs to a loop which does not run there."""

    async def script(rounds, sleep):
        rounds._loop, rounds._timer = object(), object()
        rounds._waiting[Scripted()] = None
        scan = Scripted()
        scan.answer = NEWS
        assert await rounds.news(scan) == NEWS

    scene(script)
