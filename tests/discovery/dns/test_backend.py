"""When DNS is asked again, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.backend import DnsDiscovery
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.dns.records import AAAA, A, Reply
from svcmesh.testing.sim import run, virtual_clock
from tests.discovery.dns.answering import DOWN, SRV, Script, host, services


def discovery(script, question=None, emit=None, seed=1):
    question = Question("web.test", 80, servers=(("127.0.0.1", 53),), families=(4,)) if question is None else question
    more = {} if emit is None else {"emit": emit}
    return DnsDiscovery(question, clock=virtual_clock(), client=script, rng=random.Random(seed), **more)


async def times(script, count, question=None):
    """Return the instants of the first looks."""
    watch = discovery(script, question).watch("web")
    found = []
    async for _ in watch:
        found.append(virtual_clock().now())
        if len(found) == count:
            break
    await watch.aclose()
    return found


@pytest.mark.parametrize(
    ("ttl", "shortest", "longest"), [(60.0, 60, 66), (0.0, 5, 5.5), (1.0, 5, 5.5), (86_400.0, 300, 330)]
)
def test_a_name_is_asked_for_again_when_its_time_is_over(ttl, shortest, longest):
    """Not before: a resolver that caches would say the same again. A little later, each client for itself."""
    first, second, third = run(times(Script({("web.test", A): host("10.0.0.1", ttl=ttl)}), 3))

    assert first == 0.0
    assert shortest <= second <= longest
    assert shortest <= third - second <= longest
    assert third - second != second


def test_floor_and_ceiling_can_be_set():
    question = Question("web.test", 80, families=(4,), servers=(("127.0.0.1", 53),), floor=1.0, ceiling=2.0)
    for ttl, shortest in ((0.0, 1.0), (1.5, 1.5), (60.0, 2.0)):
        _, second = run(times(Script({("web.test", A): host("10.0.0.1", ttl=ttl)}), 2, question))
        assert shortest <= second <= 1.1 * shortest


def test_each_look_yields_what_there_is():
    async def main():
        script = Script({("web.test", A): host("10.0.0.1")})
        watch = discovery(script).watch("web")
        first = await anext(watch)
        script.replies["web.test", A] = host("10.0.0.2", "10.0.0.3")
        second = await anext(watch)
        script.replies.clear()
        third = await anext(watch)
        await watch.aclose()
        return [([e.address for e in s.endpoints], s.authoritative) for s in (first, second, third)]

    assert run(main()) == [(["10.0.0.1:80"], False), (["10.0.0.2:80", "10.0.0.3:80"], False), ([], False)]


def test_a_failure_ends_the_watch_and_the_next_one_remembers():
    async def main():
        script = Script({("web.test", A): host("10.0.0.1"), ("web.test", AAAA): host("::1")})
        backend = discovery(script, Question("web.test", 80, servers=(("127.0.0.1", 53),)))
        first = backend.watch("web")
        await anext(first)
        script.replies = {("web.test", A): DOWN, ("web.test", AAAA): DOWN}
        with pytest.raises(DiscoveryError, match="nobody answers"):
            await anext(first)
        script.replies["web.test", A] = host("10.0.0.1")
        second = backend.watch("web")
        found = await anext(second)
        await second.aclose()
        return [endpoint.address for endpoint in found.endpoints]

    assert "[::1]:80" in run(main())


def test_a_doubt_asks_again_at_once_and_once_a_second_at_most():
    async def main():
        clock, script = virtual_clock(), Script({("web.test", A): host("10.0.0.1", ttl=300.0)})
        backend, looked = discovery(script), []

        async def follow():
            async for _ in backend.watch("web"):
                looked.append(clock.now())  # noqa: PERF401 - it never ends

        task = asyncio.create_task(follow())
        await sleep_until(clock, 10.0)
        for tenth in range(25):
            backend.refresh("web")
            backend.refresh("other")
            await sleep_until(clock, 10.1 + tenth / 10)
        await sleep_until(clock, 100.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        backend.refresh("web")
        return looked

    looked = run(main())
    assert looked[:2] == [0.0, 10.0]
    assert looked[2:] == pytest.approx([11.0, 12.0, 13.0])


def test_a_doubt_right_after_a_look_waits_for_the_rest_of_the_second():
    async def main():
        clock, script = virtual_clock(), Script({("web.test", A): host("10.0.0.1", ttl=300.0)})
        backend = discovery(script)
        watch = backend.watch("web")
        await anext(watch)
        later = asyncio.create_task(anext(watch))
        await sleep_until(clock, 0.25)
        backend.refresh("web")
        await later
        await watch.aclose()
        return clock.now()

    assert run(main()) == 1.0


@pytest.mark.parametrize(("name", "address"), [("10.0.0.1", "10.0.0.1:80"), ("[::1]", "[::1]:80")])
def test_an_address_is_its_own_answer(name, address):
    async def main():
        script = Script()
        watch = discovery(script, Question(name, 80)).watch("web")
        snapshot = await anext(watch)
        last = asyncio.create_task(anext(watch))
        await sleep_until(virtual_clock(), 1e6)
        over = last.done()
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        return [e.address for e in snapshot.endpoints], snapshot.authoritative, over, script.asked

    assert run(main()) == ([address], True, False, [])


def test_services_are_followed_and_what_they_lack_is_told_once(emitted):
    async def main():
        question = Question("_{service}._tcp.test", srv=True, servers=(("127.0.0.1", 53),), families=(4,))
        name, rows = "_web._tcp.test", ((1, 2, 81, "a"), (1, 1, 0, "a"))
        script = Script({(name, SRV): services(*rows), ("a", A): host("10.0.0.1")})
        watch = discovery(script, question, emitted).watch("web")
        found = [await anext(watch) for _ in range(3)]
        script.replies[name, SRV] = Reply(9.0, absent=True)
        found.append(await anext(watch))
        await watch.aclose()
        return found

    *listed, gone = run(main())
    assert [[e.address for e in s.endpoints] for s in listed] == [["10.0.0.1:81"]] * 3
    assert (gone.endpoints, gone.authoritative) == ((), True)
    assert emitted.errors() == ["1 SRV records of '_web._tcp.test' cannot be used; target 'a' has port 0"]


def test_the_hosts_file_counts_where_the_system_is_asked(monkeypatch, tmp_path):
    from svcmesh.discovery.dns import hosts

    file = tmp_path / "hosts"
    file.write_text("10.9.9.9 web.test\n")
    monkeypatch.setattr(hosts, "HOSTS", file)

    async def main(question):
        script = Script({("web.test", A): host("10.0.0.1")})
        watch = discovery(script, question).watch("web")
        found = await anext(watch)
        await watch.aclose()
        return found.endpoints[0].host

    assert run(main(Question("web.test", 80))) == "10.9.9.9"
    assert run(main(Question("web.test", 80, servers=(("127.0.0.1", 53),)))) == "10.0.0.1"


def test_names_that_are_asked_for_no_more_leave_nothing():
    async def main():
        backend = discovery(Script({("web.test", A): host("10.0.0.1")}))
        watch = backend.watch("web")
        await anext(watch)
        later = asyncio.create_task(anext(watch))
        await sleep_until(virtual_clock(), 1.0)
        assert backend._doubts
        later.cancel()
        await asyncio.gather(later, return_exceptions=True)
        return backend._doubts

    assert run(main()) == {}
