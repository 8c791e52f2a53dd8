"""The config of a host beside its endpoints: when it is asked for, and what becomes of a broken one."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.emit import silent
from svcmesh.discovery.dns.backend import DnsDiscovery
from svcmesh.discovery.dns.choices import PREFIX
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.dns.records import SRV, TXT, A, Reply
from svcmesh.discovery.dns.service_config import record_of
from svcmesh.testing.sim import run, virtual_clock
from tests.discovery.dns.answering import DOWN, Script, host, services

SERVERS = (("127.0.0.1", 53),)
QUESTION = Question("web.test", 80, servers=SERVERS, families=(4,), grpc_config=True)
RECORD = ("_grpc_config.web.test", TXT)


def texts(timeout, ttl=60.0, **more):
    config = {"methodConfig": [{"name": [{}], "timeout": timeout}], **more}
    return Reply(ttl, texts=(PREFIX + json.dumps([{"serviceConfig": config}]),))


def script(reply, ttl=60.0):
    return Script({("web.test", A): host("10.0.0.1", ttl=ttl), RECORD: reply})


def discovery(script, question=QUESTION, emit=silent):
    return DnsDiscovery(question, clock=virtual_clock(), client=script, rng=random.Random(1), emit=emit)


async def policies(backend, script, *replies):
    """Return the policy that is sent now, and after each further reply."""
    watch = backend.watch("web")
    found = [await anext(watch)]
    for reply in replies:
        script.replies[RECORD] = reply
        found.append(await anext(watch))
    await watch.aclose()
    assert all([e.address for e in snapshot.endpoints] == ["10.0.0.1:80"] for snapshot in found)
    return [snapshot.policy for snapshot in found]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("web.test", "_grpc_config.web.test"),
        ("web.test.", "_grpc_config.web.test."),
        ("_orders._tcp.web.test", "_grpc_config.web.test"),
        ("web", "_grpc_config.web"),
        ("_web", "_grpc_config._web"),
    ],
)
def test_the_record_is_that_of_the_host(name, record):
    assert record_of(name) == record


def test_it_comes_with_the_endpoints_and_changes_and_goes():
    async def main():
        answers = script(texts("1s"))
        return await policies(discovery(answers), answers, *[texts("2s")] * 2, *[Reply(30.0)] * 2)

    one, two = {"timeout": 1.0}, {"timeout": 2.0}
    assert run(main()) == [one, one, two, two, None]


def test_only_the_first_endpoints_wait_for_it():
    """A name server may know addresses and be silent about texts; then endpoints come as fast as ever."""

    class Slow(Script):
        async def ask(self, name, kind):
            if kind == TXT:
                await sleep_until(virtual_clock(), virtual_clock().now() + 4.0)
            return await super().ask(name, kind)

    async def main():
        answers = Slow(script(texts("1s", ttl=10.0), ttl=10.0).replies)
        watch = discovery(answers).watch("web")
        found = []
        for timeout in ("1s", "2s", "2s"):
            answers.replies[RECORD] = texts(timeout, ttl=10.0)
            snapshot = await anext(watch)
            found.append((virtual_clock().now(), snapshot.policy["timeout"]))
        await watch.aclose()
        return found

    (first, one), (second, still), (third, two) = run(main())
    assert (first, one, still, two) == (4.0, 1.0, 1.0, 2.0)
    assert 14.0 <= second <= 15.0
    assert third == second + 4.0


def test_services_have_that_of_their_host():
    async def main():
        answers = Script(
            {
                ("_web._tcp.web.test", SRV): services((1, 1, 80, "a")),
                ("a", A): host("10.0.0.1"),
                RECORD: texts("1s"),
            }
        )
        question = Question("_{service}._tcp.web.test", srv=True, servers=SERVERS, families=(4,), grpc_config=True)
        return await policies(discovery(answers, question), answers)

    assert run(main()) == [{"timeout": 1.0}]


def test_nobody_is_asked_for_it_where_it_is_not_wanted():
    async def main():
        answers = script(texts("1s"))
        found = await policies(discovery(answers, replace(QUESTION, grpc_config=False)), answers)
        return found, answers.asked

    assert run(main()) == ([None], [("web.test", A)])


def test_nobody_is_asked_for_that_of_an_address():
    async def main():
        answers = Script()
        watch = discovery(answers, replace(QUESTION, name="10.0.0.1")).watch("web")
        found = await anext(watch)
        await watch.aclose()
        return found.policy, answers.asked

    assert run(main()) == (None, [])


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (DOWN, "nobody answers"),
        (texts("1"), "TXT '_grpc_config.web.test': methodConfig[0].timeout is '1': seconds are wanted"),
        (Reply(60.0, texts=(PREFIX + '[{"x": 1}]',)), "TXT '_grpc_config.web.test': choice 0 has the unknown key 'x'"),
    ],
)
def test_while_it_cannot_be_had_or_is_none_the_last_one_stays_and_that_is_told_once(emitted, bad, told):
    async def main():
        answers = script(texts("1s"), ttl=5.0)
        return await policies(discovery(answers, emit=emitted), answers, *[bad] * 30, *[texts("2s")] * 30, *[bad] * 30)

    found = run(main())
    assert found[0] == {"timeout": 1.0}
    assert found[-1] == {"timeout": 2.0}
    assert [error[: len(told)] for error in emitted.errors()] == [told, told]


def test_it_stays_when_a_watch_ends_and_another_begins():
    async def main():
        answers = script(texts("1s"))
        backend = discovery(answers)
        await policies(backend, answers)
        await sleep_until(virtual_clock(), 1000.0)
        answers.replies[RECORD] = DOWN
        return await policies(backend, answers)

    assert run(main()) == [{"timeout": 1.0}]


def test_what_has_no_counterpart_is_told_once(emitted):
    async def main():
        more = {f"x{number}": 1 for number in range(6)}
        answers = script(texts("1s", retryThrottling={}, **more))
        return await policies(discovery(answers, emit=emitted), answers, *[texts("2s", retryThrottling={}, **more)] * 2)

    assert run(main())[-1] == {"timeout": 2.0}
    told = "what TXT '_grpc_config.web.test' says is not applied: retryThrottling, x0, x1, x2, x3 (and 2 more)"
    assert emitted.errors() == [told]


@pytest.mark.parametrize(("ttl", "least", "most"), [(20.0, 20, 22), (0.0, 5, 5.5), (1e6, 60, 66)])
def test_the_shorter_time_to_live_counts(ttl, least, most):
    """Of endpoints, which have a minute, and config; no shorter and no longer than the question says."""

    async def main():
        answers = script(texts("1s", ttl=ttl))
        await policies(discovery(answers), answers, texts("1s", ttl=ttl))
        return virtual_clock().now()

    assert least <= run(main()) <= most


def test_a_doubt_about_endpoints_asks_for_no_config():
    async def main():
        answers = script(texts("1s"))
        backend = discovery(answers)
        watch = backend.watch("web")
        await anext(watch)
        for number in range(1, 5):
            virtual_clock().call_at(asyncio.get_running_loop(), 2.0 * number, lambda: backend.refresh("web"))
            await anext(watch)
        await watch.aclose()
        return answers.asked.count(RECORD), answers.asked.count(("web.test", A))

    assert run(main()) == (1, 5)


def test_the_share_of_clients_that_takes_a_choice_is_drawn_once():
    async def main():
        config = {"methodConfig": [{"name": [{}], "timeout": "1s"}]}
        reply = Reply(5.0, texts=(PREFIX + json.dumps([{"percentage": 50, "serviceConfig": config}]),))
        found = []
        for seed in range(40):
            answers = script(reply)
            backend = DnsDiscovery(QUESTION, clock=virtual_clock(), client=answers, rng=random.Random(seed))
            found.append({bool(sent) for sent in await policies(backend, answers, reply, reply)})
        return found

    found = run(main())
    assert all(len(one) == 1 for one in found)
    assert 5 < found.count({True}) < 35
