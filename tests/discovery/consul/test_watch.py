"""The rules of blocking queries, one by one, in virtual time against answers that a test writes down."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from random import Random

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.consul.address import Agent
from svcmesh.discovery.consul.client import Answer
from svcmesh.discovery.consul.entries import Reading
from svcmesh.discovery.consul.errors import Denied, Unknown, Unreachable
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.watch import Surface, index_of, poll_query, watch_service
from svcmesh.discovery.pace import SLOWLY, SPREAD
from svcmesh.testing.sim import run, virtual_clock


@pytest.fixture(autouse=True)
def come_back():
    """Do so as users' clients do."""


ONE, OTHER = Agent("http://one:1"), Agent("http://other:1")


def body(*ports):
    """Return instances as Consul lists them; their indexes and outputs are another each time."""
    return json.dumps(
        [
            {
                "Node": {"Node": "n", "Address": "10.0.0.1", "ModifyIndex": id(object())},
                "Service": {"ID": str(port), "Port": port},
                "Checks": [{"CheckID": "c", "Status": "passing", "Output": str(id(object()))}],
            }
            for port in ports
        ]
    ).encode()


class Step:
    """An answer: after ``after`` seconds, with this index (None: no header) and these ports, or an error."""

    def __init__(self, index, *ports, after=0.0, agent=ONE, error=None, headers=None):
        self.after, self.agent, self.error = after, agent, error
        self.headers = {} if index is None else {"x-consul-index": str(index)}
        self.headers |= {"x-consul-default-acl-policy": "allow"} | (headers or {})
        self.body = json.dumps({"Nodes": json.loads(body(*ports))}).encode() if index == "query" else body(*ports)


class Script:
    """A client whose n-th question gets the n-th answer; the last one is repeated."""

    agents = (ONE, OTHER)

    def __init__(self, *steps):
        self.steps = steps
        self.asked = []  # (instant, index or None, agents or None)
        self.patience = []

    async def get(self, path, params=(), *, agents=None, patience=10.0):
        clock = virtual_clock()
        step = self.steps[min(len(self.asked), len(self.steps) - 1)]
        index = dict(params).get("index")
        self.asked.append((round(clock.now(), 3), None if index is None else int(index), agents))
        self.patience.append(patience)
        self.path, self.params = path, list(params)
        await sleep_until(clock, clock.now() + step.after)
        if step.error is not None:
            raise step.error
        return Answer(step.body, step.headers, step.agent)

    def indexes(self):
        return [index for _, index, _ in self.asked]


FOREVER = Step(99, 1, after=1e9)


def watched(*steps, seconds=100.0, question=None, watch=watch_service, events=None):
    """Watch for so long; return the script, ``(instant, ports)`` of the snapshots, and what ended it."""
    script = Script(*steps)
    found = []

    async def main():
        clock = virtual_clock()

        def emit(name, service, **fields):
            (events if events is not None else []).append((name, service, fields["error"]))

        surface = Surface(script, clock, emit, Random(1))

        async def follow():
            async for snapshot in watch(surface, question or Question(), "orders"):
                found.append((round(clock.now(), 3), [endpoint.port for endpoint in snapshot.endpoints]))
                script.last = snapshot

        task = asyncio.ensure_future(follow())
        await asyncio.wait([task, asyncio.ensure_future(sleep_until(clock, seconds))], return_when="FIRST_COMPLETED")
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            return None
        return task.exception()

    return script, found, run(main())


def test_the_next_question_carries_the_index_of_the_last_answer_and_may_be_held():
    script, found, _ = watched(Step(5, 1), Step(9, 1, 2, after=3.0), FOREVER)

    assert found == [(0, [1]), (3, [1, 2])]
    assert script.indexes() == [None, 5, 9]
    assert script.path == "/v1/health/service/orders"
    assert ("wait", "15000ms") in script.params, "nobody else knows whether the agent lives"
    assert script.last.version == 9


def test_the_client_waits_for_longer_than_consul_may():
    script, _, _ = watched(Step(5, 1), FOREVER, question=Question(wait=8.0))

    assert script.patience == [10.0, 8.0 + 8.0 / 16 + 10.0]


def test_an_index_that_went_back_is_asked_again_without_and_that_answer_counts():
    script, found, _ = watched(Step(50, 1, 2), Step(7), Step(8, 3), FOREVER)

    assert script.indexes() == [None, 50, None, 8]
    assert [ports for _, ports in found] == [[1, 2], [3]], "the answer that went back is not believed"


@pytest.mark.parametrize("index", [0, 1])
def test_index_0_is_taken_for_1(index):
    script, _, _ = watched(Step(index, 1), FOREVER)

    assert script.indexes() == [None, 1]


def test_indexes_beyond_floating_point_are_exact():
    script, _, _ = watched(Step(2**53 + 1, 1), Step(2**64 - 1, 1, 2, after=1), FOREVER)

    assert script.indexes() == [None, 2**53 + 1, 2**64 - 1]


@pytest.mark.parametrize("text", ["", "-1", "abc", "1e3", str(2**64), "\uff19", "1" * 30, " 7"])
def test_an_answer_without_a_readable_index_is_none(text):
    with pytest.raises(DiscoveryError, match="no index"):
        index_of({"x-consul-index": text})
    _, found, error = watched(Step(5, 1), Step(text, 1, 2))
    assert found == [(0, [1])]
    assert isinstance(error, DiscoveryError)


def test_a_wait_that_ran_out_and_new_indexes_of_the_same_content_are_no_news():
    script, found, _ = watched(Step(5, 1), Step(5, 1, after=60), Step(6, 1, after=10), FOREVER)

    assert found == [(0, [1])]
    assert script.indexes() == [None, 5, 5, 6]


@pytest.mark.parametrize("steps", [[Step(5, 1), Step(5, 1)], [Step(5, 1), *[Step(n, 1) for n in range(6, 500)]]])
def test_answers_without_news_make_no_busy_loop(steps):
    script, found, _ = watched(*steps, seconds=100.0)

    assert len(script.asked) < 60
    assert found == [(0, [1])]


def test_an_index_that_always_goes_back_makes_no_busy_loop():
    script, _, _ = watched(*[Step(10 - n % 2, 1) for n in range(1000)], seconds=100.0)

    assert len(script.asked) < 120


def test_churn_is_followed_at_a_pace_and_single_changes_wait_for_nothing():
    churn = [Step(n, n) for n in range(1, 5000)]
    script, found, _ = watched(*churn, seconds=100.0)

    assert [instant for instant, _ in found[:20]] == [0] * 20
    assert 400 < len(script.asked) < 600


def test_a_connection_that_breaks_is_asked_again_without_an_index():
    """The agent may have restarted, and would hold a question whose index it has yet to reach."""
    script, found, error = watched(Step(50, 1), Step(0, error=Unreachable("gone")), Step(3, 1, 2), FOREVER)

    assert error is None
    assert script.indexes() == [None, 50, None, 3]
    assert script.asked[1][2] == (ONE,), "an index means something to the agent that gave it"
    assert script.asked[2][2] is None, "any agent may answer"
    assert found[-1][1] == [1, 2]


def test_those_whose_connections_broke_together_do_not_come_back_together():
    """A thousand times: at most 5 % of them ask in any tenth of a second."""

    async def main():
        clock = virtual_clock()
        scripts = [Script(Step(50, 1), Step(0, after=30.0, error=Unreachable("gone")), FOREVER) for _ in range(1000)]

        async def follow(number, script):
            async for _ in watch_service(Surface(script, clock, silent, Random(number)), Question(), "orders"):
                pass

        tasks = [asyncio.ensure_future(follow(number, script)) for number, script in enumerate(scripts)]
        await sleep_until(clock, 60.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(script.asked[2][0] for script in scripts)

    instants = run(main())
    assert 30.0 <= instants[0] <= instants[-1] <= 30.0 + SPREAD
    assert all(later - first > 0.1 for first, later in zip(instants, instants[50:], strict=False))


def test_held_questions_go_to_the_agent_that_gave_the_index():
    script, _, _ = watched(Step(5, 1, agent=OTHER), FOREVER)

    assert script.asked[1][2] == (OTHER,)


@pytest.mark.parametrize("error", [Unreachable("down"), Unknown("not here"), Denied("no")])
def test_when_nobody_answers_the_watch_says_so(error):
    _, found, raised = watched(Step(5, 1), Step(0, error=error))

    assert raised is error
    assert found == [(0, [1])]


def test_a_list_from_which_rights_took_everything_is_no_empty_service():
    lost = Step(7, headers={"x-consul-results-filtered-by-acls": "true"})
    _, found, error = watched(Step(5, 1), lost)

    assert found == [(0, [1])]
    assert isinstance(error, Denied)
    assert "service:read" in str(error)
    assert error.retry_after == SLOWLY


def test_a_list_from_which_rights_took_something_is_what_is_left():
    partly = Step(7, 1, headers={"x-consul-results-filtered-by-acls": "true"})

    assert watched(partly, FOREVER)[1] == [(0, [1])]


def test_an_empty_list_is_an_answer_that_has_to_prove_itself():
    script, found, _ = watched(Step(5), FOREVER)

    assert found == [(0, [])]
    assert not script.last.authoritative


def test_a_list_of_nothing_but_maintenance_is_believed_at_once():
    step = Step(5, 1)
    entries = json.loads(step.body)
    entries[0]["Checks"].append({"CheckID": "_node_maintenance", "Status": "critical"})
    step.body = json.dumps(entries).encode()

    script, found, _ = watched(step, FOREVER)
    assert found == [(0, [])]
    assert script.last.authoritative


def test_an_answer_older_than_allowed_is_refused():
    old = Step(5, 1, headers={"x-consul-lastcontact": "2500"})

    assert watched(old, FOREVER, question=Question(max_stale=3.0))[1] == [(0, [1])]
    assert watched(old, FOREVER)[1] == [(0, [1])], "without a limit any age will do"
    _, found, error = watched(old, question=Question(max_stale=2.0))
    assert found == []
    assert "2.5 s; max-stale allows 2 s" in str(error)


def test_another_order_by_distance_is_seen_under_the_same_index_and_is_news_by_itself():
    near = Question(reading=Reading(ordered=True))
    steps = [Step(5, 1, 2), Step(5, 1, 2, after=60.0), Step(5, 2, 1, after=60.0), FOREVER]
    script, found, _ = watched(*steps, question=near, seconds=150.0)

    assert found == [(0, [1, 2]), (120, [2, 1])]
    assert script.last.ordered
    assert script.indexes() == [None, 5, 5, 5]
    assert watched(*steps, seconds=150.0)[1] == [(0, [1, 2])]


def test_an_order_by_distance_is_asked_for_no_faster_than_others():
    script, _, _ = watched(Step(5, 1), question=Question(reading=Reading(ordered=True)), seconds=100.0)

    assert len(script.asked) <= 60


def test_what_cannot_be_used_is_told_once():
    steps = [Step(5, 1), Step(6, 1, 2, after=1)]
    for step in steps:
        step.body = json.dumps([{"Service": {"ID": "x", "Port": 0}}, *json.loads(step.body)]).encode()
    events = []
    watched(*steps, FOREVER, events=events)

    ((name, service, told),) = events
    assert (name, service) == ("config.warning", "orders")
    assert "1 instances that Consul lists cannot be used; entry 0" in told


def test_a_name_that_no_path_can_hold_is_refused():
    for name in ("a\nb", "\0", "\ud800"):
        _, found, error = watched(Step(5, 1), question=Question(name=name))
        assert found == []
        assert "no name" in str(error)


def test_names_are_quoted():
    script, _, _ = watched(FOREVER, question=Question(name="a/b c"))

    assert script.path == "/v1/health/service/a%2Fb%20c"


def test_a_prepared_query_is_executed_again_and_again_with_jitter():
    steps = [Step("query", 1), Step("query", 1), Step("query", 2)]
    question = Question(name="near", is_query=True, every=10.0)
    script, found, _ = watched(*steps, watch=poll_query, question=question, seconds=1000.0)

    instants = [instant for instant, _, _ in script.asked]
    gaps = [later - earlier for earlier, later in pairwise(instants)]
    assert all(9.0 <= gap <= 11.001 for gap in gaps)
    assert len({round(gap, 2) for gap in gaps}) > 10
    assert [ports for _, ports in found] == [[1], [2]]
    assert script.path == "/v1/query/near/execute"
    assert script.indexes() == [None] * len(instants), "it cannot be held"
