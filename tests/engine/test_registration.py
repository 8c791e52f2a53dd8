"""An announcement stays in force while its process lives, survives its registry, and is taken back in bounded time."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.engine.registration import Announcer
from svcmesh.testing.sim import run, virtual_clock

TTL = 9.0


@pytest.fixture(autouse=True)
def come_back():
    """Come back as users' clients do."""


MINE = Announcement("orders", "o-1", "a:1", ttl=TTL)


class Registry:
    """A registrar whose state a test sets: up, down (an error at once), or hanging (no answer, ever)."""

    def __init__(self, state="up"):
        self.state = state
        self.calls = []  # (instant, what) of those that succeeded
        self.tries = []
        self.pending = 0
        self.registered = self.draining = False
        self.last = None

    async def _call(self, what):
        now = virtual_clock().now()
        self.tries.append((round(now, 3), what))
        self.pending += 1
        try:
            if self.state == "hanging":
                await asyncio.get_running_loop().create_future()
            if self.state != "up":
                raise self.state if isinstance(self.state, BaseException) else DiscoveryError("registry down")
            self.calls.append((round(now, 3), what))
        finally:
            self.pending -= 1

    async def register(self, announcement):
        await self._call("register")
        self.registered, self.draining, self.last = True, False, virtual_clock().now()

    async def heartbeat(self, announcement):
        await self._call("heartbeat")
        self.registered, self.last = True, virtual_clock().now()

    async def deregister(self, announcement):
        await self._call("deregister")
        self.registered = False

    async def drain(self, announcement):
        await self._call("drain")
        self.draining = True


class Scene:
    """An announcer at work, and what it has said."""

    def __init__(self, registry, seed=1):
        self.clock = virtual_clock()
        self.events = []
        self.registry = registry
        self.announcer = Announcer(registry, MINE, clock=self.clock, rng=random.Random(seed), emit=self._emit)
        self.running = asyncio.ensure_future(self.announcer.run())

    def _emit(self, name, service, **fields):
        assert service == "orders"
        assert fields["id"] == "o-1"
        self.events.append((round(self.clock.now(), 3), name.removeprefix("registration.")))

    async def sleep(self, seconds):
        await sleep_until(self.clock, self.clock.now() + seconds)

    def names(self):
        return [name for _, name in self.events]


def scene(registry, script, seed=1):
    """Run ``script(scene)`` in virtual time, then stop the announcer; nothing may be left running."""

    async def main():
        made = Scene(registry, seed)
        await script(made)
        made.running.cancel()
        await asyncio.wait([made.running])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert registry.pending == 0
        return made

    return run(main())


def test_it_registers_at_once_and_heartbeats_within_every_third_of_the_ttl():
    registry = Registry()

    made = scene(registry, lambda s: s.sleep(100.0))

    assert registry.calls[0] == (0, "register")
    beats = [instant for instant, what in registry.calls if what == "heartbeat"]
    gaps = [after - before for before, after in pairwise(beats)]
    assert beats[0] <= TTL / 3
    assert all(TTL / 3 * 0.97 <= gap <= TTL / 3 + 0.001 for gap in gaps)
    assert len({round(gap, 2) for gap in gaps}) > 3, "jittered"
    assert made.events == [(0, "registered")]
    assert made.announcer.registered


def test_a_registry_that_is_down_at_first_is_tried_until_it_answers():
    registry = Registry("down")

    async def script(s):
        await s.sleep(30.0)
        assert not s.announcer.registered
        assert s.announcer.last_error == "registry down"
        registry.state = "up"
        await s.sleep(5.0)
        assert s.announcer.registered

    assert scene(registry, script).names() == ["lost", "registered"], "told once, not at each try"
    assert registry.tries[1][0] <= 0.1, "the first retry is quick"


def test_a_failed_heartbeat_is_repeated_inside_the_ttl():
    registry = Registry()

    async def script(s):
        await s.sleep(10.0)
        registry.state = "down"
        await s.sleep(4.0)
        registry.state = "up"
        await s.sleep(TTL)

    assert scene(registry, script).names() == ["registered"], "it was never out of force"
    assert sum(what == "register" for _, what in registry.tries) == 1


def test_it_is_lost_when_the_ttl_ends_and_registered_when_the_registry_is_back():
    registry = Registry()

    async def script(s):
        await s.sleep(10.0)
        registry.state = "down"
        await s.sleep(60.0)
        assert not s.announcer.registered
        registry.state = "up"
        await s.sleep(5.0)
        assert s.announcer.registered

    made = scene(registry, script)
    assert made.names() == ["registered", "lost", "registered"]
    last = max(instant for instant, what in registry.calls if instant <= 10.0)
    assert made.events[1][0] - last == pytest.approx(TTL, abs=0.01)
    failed = [instant for instant, what in registry.tries if 10.0 < instant < last + TTL]
    assert len(failed) == 3, "a heartbeat, and two more inside the TTL"


@pytest.mark.parametrize("away", [2.0, 16.0])
def test_a_thousand_processes_do_not_come_back_together(away):
    """At most 5 % of them tell a registry that is back in any tenth of a second, however long it was away."""
    lost, ttl = 5.0, 10.0
    told: dict[str, float] = {}

    class Restarted:
        async def register(self, announcement):
            await self.heartbeat(announcement)

        async def heartbeat(self, announcement):
            now = virtual_clock().now()
            if lost <= now < lost + away:
                raise DiscoveryError("registry down")
            if now >= lost + away:
                told.setdefault(announcement.id, now)

    async def main():
        common = {"clock": virtual_clock(), "emit": lambda *_, **__: None}
        mine = [Announcement("orders", str(number), "a:1", ttl=ttl) for number in range(1000)]
        all_of_them = [
            asyncio.ensure_future(Announcer(Restarted(), one, rng=random.Random(number), **common).run())
            for number, one in enumerate(mine)
        ]
        await sleep_until(common["clock"], lost + away + ttl)
        for one in all_of_them:
            one.cancel()
        await asyncio.gather(*all_of_them, return_exceptions=True)

    run(main())
    assert len(told) == 1000, "and within a TTL all of them have"
    instants = sorted(told.values())
    assert max(bisect_left(instants, first + 0.1) - number for number, first in enumerate(instants)) <= 50


def test_a_registry_that_had_lost_it_is_told_of():
    """A heartbeat that registers again says so, and that is news for who listens; the next one is none."""

    class Forgetful(Registry):
        forgot = False

        async def heartbeat(self, announcement):
            await super().heartbeat(announcement)
            forgot, self.forgot = self.forgot, False
            return forgot

    registry = Forgetful()

    async def story(scene):
        await scene.sleep(5.0)
        assert scene.names() == ["registered"]
        registry.forgot = True
        await scene.sleep(10.0)
        assert scene.names() == ["registered", "lost", "registered"]
        assert scene.announcer.registered

    scene(registry, story)


def test_a_registry_that_asks_for_time_is_given_it():
    registry = Registry(DiscoveryError("busy", retry_after=4.0))

    scene(registry, lambda s: s.sleep(30.0))

    instants = [instant for instant, _ in registry.tries]
    assert all(after - before >= 4.0 for before, after in pairwise(instants))


def test_a_registry_that_hangs_does_not_stop_the_heart():
    registry = Registry()

    async def script(s):
        await s.sleep(10.0)
        registry.state = "hanging"
        await s.sleep(30.0)
        assert "did not answer within 3 s" in s.announcer.last_error
        registry.state = "up"
        await s.sleep(10.0)
        assert s.announcer.registered

    assert scene(registry, script).names() == ["registered", "lost", "registered"]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("bug"), OSError("socket"), asyncio.CancelledError(), SystemExit(3)]
)
def test_whatever_a_registrar_raises_the_heart_goes_on(error):
    registry = Registry(error)

    async def script(s):
        await s.sleep(5.0)
        registry.state = "up"
        await s.sleep(5.0)
        assert s.announcer.registered

    scene(registry, script)


def test_leaving_drains_waits_and_deregisters_while_heartbeats_go_on():
    registry = Registry()

    async def script(s):
        await s.sleep(2.5)
        assert await s.announcer.leave(2.0)
        assert s.clock.now() == pytest.approx(4.5)
        await s.sleep(60.0)
        assert s.running.done()

    made = scene(registry, script)
    calls = [what for _, what in registry.calls]
    assert [what for what in calls if what != "heartbeat"] == ["register", "drain", "deregister"]
    assert any(what == "heartbeat" and instant > 2.5 for instant, what in registry.calls)
    assert made.names() == ["registered", "left"]
    assert not registry.registered
    assert not made.announcer.registered


@pytest.mark.parametrize("drain", [0.0, 1.0, 3.0, 60.0])
@pytest.mark.parametrize("state", ["up", "down", "hanging"])
def test_leaving_is_bounded(drain, state):
    registry = Registry()

    async def script(s):
        await s.sleep(10.0)
        registry.state = state
        began = s.clock.now()
        clean = await s.announcer.leave(drain)
        took = s.clock.now() - began
        assert clean == (state == "up")
        assert took <= (5.0 if state == "up" else 2.2)

    assert scene(registry, script).names()[-1] == "left"


def test_leaving_is_bounded_when_the_registry_dies_during_the_drain():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        leaving = asyncio.ensure_future(s.announcer.leave(60.0))
        await s.sleep(1.0)
        registry.state = "hanging"
        assert not await leaving
        assert s.clock.now() <= 6.2

    scene(registry, script)


def test_who_never_got_in_does_not_wait_for_the_drain():
    registry = Registry("down")

    async def script(s):
        await s.sleep(1.0)
        assert not await s.announcer.leave(4.0)
        assert s.clock.now() <= 3.2

    assert scene(registry, script).names() == ["lost", "left"]


def test_a_registry_that_comes_back_in_time_is_told():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        registry.state = "down"
        leaving = asyncio.ensure_future(s.announcer.leave())
        await s.sleep(0.5)
        registry.state = "up"
        assert await leaving

    scene(registry, script)
    assert not registry.registered


def test_nothing_registers_again_after_leaving():
    """A heartbeat that is under way while it leaves must not bring back what was taken away."""
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        registry.state = "hanging"
        await s.sleep(3.0)
        registry.state = "up"
        await s.announcer.leave()
        after = len(registry.calls)
        await s.sleep(60.0)
        assert len(registry.calls) == after

    scene(registry, script)
    assert registry.calls[-1][1] == "deregister"


def test_leaving_twice_is_leaving_once():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        assert await asyncio.gather(s.announcer.leave(1.0), s.announcer.leave(1.0)) == [True, True]
        assert await s.announcer.leave()

    assert scene(registry, script).names() == ["registered", "left"]
    assert sum(what == "deregister" for _, what in registry.tries) == 1


def test_who_gives_up_waiting_does_not_stop_the_leaving():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        waiting = asyncio.ensure_future(s.announcer.leave(1.0))
        await s.sleep(0.5)
        waiting.cancel()
        await s.sleep(2.0)

    scene(registry, script)
    assert not registry.registered


def test_a_loop_that_ends_during_the_drain_still_deregisters():
    """As the worker's does when somebody is too impatient to wait: all of its tasks are cancelled, and awaited."""
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        leaving = asyncio.ensure_future(s.announcer.leave(60.0))
        await s.sleep(1.0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert leaving.cancelled()
        assert s.clock.now() == 2.0

    assert scene(registry, script).names() == ["registered", "left"]
    assert not registry.registered


def test_running_after_leaving_does_nothing():
    registry = Registry()

    async def script(s):
        await s.announcer.leave()
        await s.announcer.run()
        await s.sleep(10.0)

    scene(registry, script)
    assert "register" not in [what for _, what in registry.tries][1:]
    assert not registry.registered


def test_cancelling_stops_the_heart_and_leaves_the_registration_to_its_ttl():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        s.running.cancel()
        await s.sleep(30.0)

    scene(registry, script)
    assert {what for _, what in registry.calls} <= {"register", "heartbeat"}
    assert registry.calls[-1][0] <= 1.0
    assert registry.registered


def test_draining_goes_on_with_heartbeats():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        assert await s.announcer.drain()
        await s.sleep(30.0)
        assert s.announcer.registered

    scene(registry, script)
    assert registry.draining
    assert [what for _, what in registry.calls].count("drain") == 1


def test_a_registry_that_could_not_be_told_to_drain_is_told_later():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        registry.state = "down"
        assert not await s.announcer.drain()
        registry.state = "up"
        await s.sleep(TTL)

    scene(registry, script)
    assert registry.draining


def test_who_registers_again_drains_again():
    registry = Registry()

    async def script(s):
        await s.sleep(1.0)
        await s.announcer.drain()
        registry.state = "down"
        await s.sleep(60.0)
        registry.state = "up"
        await s.sleep(10.0)

    scene(registry, script)
    assert registry.draining
    assert [what for _, what in registry.calls].count("register") == 2


outages = st.lists(st.tuples(st.floats(0.1, 20.0), st.sampled_from(["up", "down", "hanging"])), max_size=8)


@given(outages, st.integers(0, 1000))
def test_the_laws(steps, seed):
    """Whatever the registry does: while it is up for a TTL it knows us, and after leaving it does not."""
    registry = Registry()

    async def script(s):
        for seconds, state in steps:
            registry.state = state
            await s.sleep(seconds)
        registry.state = "up"
        await s.sleep(TTL)
        assert s.announcer.registered
        assert s.clock.now() - registry.last <= TTL / 3 + 0.001
        await s.announcer.leave()

    made = scene(registry, script, seed)
    assert not registry.registered
    names = made.names()
    assert all(one != other for one, other in pairwise(names))
    assert names[-2:] == ["registered", "left"]
