"""Endpoints are asked in their turn, what that finds decides who is called, and it is told."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from svcmesh.balance import RoundRobin
from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.effects import Done
from svcmesh.engine.health import checking as module
from svcmesh.engine.machine import Call
from svcmesh.engine.news import await_until
from svcmesh.engine.peek import Peek
from svcmesh.engine.state import describe
from svcmesh.engine.view import View
from svcmesh.observe.explain import explain
from svcmesh.policy import OutlierDetection, Policy
from svcmesh.policy.health.finding import Unasked
from tests.engine.health.asked import NO, REFUSED, SILENT, A, B, C, Stage, check, staged
from tests.engine.scripted import Exchange, lost

ALL = {A.address, B.address, C.address}


def policy(**fields) -> Policy:
    return Policy(health_check=check(**fields))


def test_nobody_is_asked_before_the_first_call() -> None:
    async def main(stage: Stage) -> None:
        await stage.until(100.0)
        assert stage.asked.asked == {}
        assert stage.worker.tasks == []
        assert stage.view.choose() is None  # the machine, which starts it
        stage.begin()
        assert stage.view.choose() is not None
        await stage.until(101.0)
        assert stage.asked.asked == {A: [100.0], B: [100.0], C: [100.0]}

    staged(main, policy(), A, B, C)


def test_without_a_health_check_nothing_runs() -> None:
    async def main(stage: Stage) -> None:
        assert stage.view.choose() is not None
        stage.begin()
        await stage.until(100.0)
        assert stage.asked.asked == {}
        assert stage.worker.tasks == []

    staged(main, Policy(), A, B, C)


def test_at_the_start_all_take_calls_until_their_first_check() -> None:
    """And a panic that lasts until the second answer is none."""

    async def main(stage: Stage) -> None:
        stage.asked.takes = {A: 0.1, B: 0.2, C: 0.3}
        stage.asked.says = {C: SILENT}
        stage.begin()
        await stage.until(0.25)
        assert stage.called() == ALL
        await stage.until(0.35)
        assert stage.called() == {A.address, B.address}
        assert stage.told("endpoint.healthy", "endpoint.unhealthy", "panic.entered") == [
            (0.1, "endpoint.healthy", A.address, None),
            (0.2, "endpoint.healthy", B.address, None),
            (0.3, "endpoint.unhealthy", C.address, "no answer"),
        ]

    staged(main, policy().replace(panic_threshold=0.5), A, B, C)


def test_a_newcomer_takes_no_call_before_it_has_passed() -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        stage.asked.takes = {C: 0.5}
        stage.set(A, B, C)
        assert stage.called() == {A.address, B.address}
        await stage.until(5.4)
        assert stage.called() == {A.address, B.address}
        await stage.until(5.6)
        assert stage.called() == ALL
        assert stage.asked.asked[C] == [5.0]
        assert stage.cluster.members[C.address].since == 5.5  # from which slow start counts

    staged(main, policy(), A, B)


def test_where_all_are_replaced_the_new_ones_take_calls_at_once() -> None:
    """Nobody else could."""

    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        stage.asked.takes = {B: 0.5, C: 0.5}
        stage.set(B, C)
        assert stage.called() == {B.address, C.address}

    staged(main, policy(), A)


def test_thresholds_and_intervals_decide_when() -> None:
    """Two silences 2 s apart take it out; of three successes the edge ones are 4 s apart; in between every 20 s."""
    config = {
        "interval": 10.0,
        "unhealthy_edge_interval": 2.0,
        "unhealthy_interval": 20.0,
        "healthy_edge_interval": 4.0,
        "unhealthy_threshold": 2,
        "healthy_threshold": 3,
    }

    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        stage.asked.says = {B: SILENT}
        await stage.until(13.0)
        assert stage.called() == {A.address}
        stage.asked.says = {}
        await stage.until(61.0)
        assert stage.called() == {A.address, B.address}
        assert stage.asked.asked[B] == [0.0, 10.0, 12.0, 32.0, 36.0, 40.0, 50.0, 60.0]
        assert stage.asked.asked[A] == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        assert stage.told("endpoint.healthy", "endpoint.unhealthy")[2:] == [
            (12.0, "endpoint.unhealthy", B.address, "no answer"),
            (40.0, "endpoint.healthy", B.address, None),
        ]

    staged(main, policy(**config), A, B)


def test_an_answer_that_says_no_takes_it_out_at_once() -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        stage.asked.says = {B: NO, A: SILENT}
        await stage.until(10.5)
        assert stage.called() == {A.address}

    staged(main, policy(), A, B)


def test_a_check_that_takes_too_long_is_cut_off() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.takes = {A: 100.0}
        stage.begin()
        await stage.until(2.0)
        assert stage.asked.under_way == 0
        assert stage.told("endpoint.unhealthy") == [(0.5, "endpoint.unhealthy", A.address, "no answer within 0.5 s")]

    staged(main, policy(timeout=0.5), A, B)


def test_an_error_of_the_asker_counts_like_no_answer() -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        stage.asked.says = {A: ValueError("own")}
        await stage.until(25.0)
        assert stage.called() == {A.address, B.address}
        await stage.until(35.0)
        assert stage.called() == {B.address}
        assert stage.told("endpoint.unhealthy")[0][3] == "ValueError: own"

    staged(main, policy(unhealthy_threshold=3), A, B)


def test_what_could_not_be_asked_says_nothing() -> None:
    """Neither of one that is well, nor of one that is ill; it is asked again."""

    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO}
        stage.begin()
        await stage.until(5.0)
        stage.asked.says = {A: Unasked("too many open files"), B: Unasked("too many open files")}
        await stage.until(95.0)
        assert stage.called() == {A.address}
        assert len(stage.asked.asked[A]) == len(stage.asked.asked[B]) == 10
        assert stage.told("health_check.finished")[-1][3] == "too many open files"

    staged(main, policy(), A, B)


@pytest.mark.parametrize("seed", range(5))
def test_jitter_spreads_the_first_check_and_those_after_it(seed: int) -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(100.0)
        for endpoint in (A, B, C):
            times = stage.asked.asked[endpoint]
            assert 0 < times[0] < 3.0
            gaps = [late - early for early, late in itertools.pairwise(times)]
            assert all(10.0 <= gap < 12.0 for gap in gaps)
            assert max(gaps) - min(gaps) > 0.2
        assert len({stage.asked.asked[each][0] for each in (A, B, C)}) == 3

    staged(main, policy(initial_jitter=3.0, interval_jitter_percent=20), A, B, C, seed=seed)


def test_while_the_service_is_not_called_it_is_asked_less_often_and_soon_more_often_once_it_is() -> None:
    async def main(stage: Stage) -> None:
        stage.cluster.health.start()
        await stage.until(125.0)
        assert stage.asked.asked[A] == [0.0, 60.0, 120.0]
        stage.call_once()
        await stage.until(141.0)
        times = stage.asked.asked[A]
        assert 130.0 <= times[3] <= 140.0  # looked at 130, and from there within an interval
        await stage.until(170.0)
        assert times[4] == pytest.approx(times[3] + 10.0)

    staged(main, policy(), A, B)


def test_not_more_than_so_many_are_asked_at_once_and_waiting_costs_no_time_of_a_check(monkeypatch) -> None:
    """Ten endpoints that take 0.9 of 1 s, four at a time: all pass, the last of them after 2.7 s."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", 4)
    many = [Endpoint(f"10.0.1.{n}:80") for n in range(1, 11)]

    async def main(stage: Stage) -> None:
        stage.asked.takes = dict.fromkeys(many, 0.9)
        stage.begin()
        await stage.until(3.0)
        assert stage.asked.most == 4
        assert [event[0] for event in stage.told("endpoint.healthy")] == [0.9] * 4 + [1.8] * 4 + [2.7] * 2
        assert stage.told("endpoint.unhealthy") == []

    staged(main, policy(timeout=1.0), *many)


def test_one_that_leaves_is_asked_no_more_and_comes_back_afresh() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.says = {C: NO}
        stage.begin()
        await stage.until(9.0)
        stage.asked.takes = {B: 0.8}
        await stage.until(10.5)  # B is being asked
        stage.set(A)
        await stage.until(60.0)
        assert stage.asked.asked[B] == [0.0, 10.0]
        assert stage.asked.asked[C] == [0.0, 10.0]
        assert stage.asked.forgotten == [C, B]
        stage.asked.says = {}
        stage.set(A, C)
        await stage.until(61.0)
        assert stage.called() == {A.address, C.address}
        assert stage.asked.asked[C] == [0.0, 10.0, 60.0]

    staged(main, policy(), A, B, C)


def test_one_that_only_changes_keeps_its_health() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO}
        stage.begin()
        await stage.until(5.0)
        stage.set(A, Endpoint(B.address, weight=3))
        assert stage.called() == {A.address}
        await stage.until(6.0)
        assert stage.asked.asked[B] == [0.0]

    staged(main, policy(), A, B)


def test_priorities_go_by_it() -> None:
    """Of two one is well: 70 % of the calls for the first priority, the rest for the standby."""
    standby = Endpoint("10.0.9.1:80", priority=1)

    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO}
        stage.begin()
        await stage.until(1.0)
        assert [(level.healthy, level.load) for level in stage.view.selection.plan.levels] == [(1, 70), (1, 30)]

    staged(main, policy(), A, B, standby)


def test_one_that_says_it_is_degraded_is_called_where_others_do_not_suffice() -> None:
    """Three of four that are well take all calls, one shares them with it, and where none is it has them all."""
    spared = Endpoint("10.0.0.4:80")

    async def main(stage: Stage) -> None:
        stage.asked.degraded = {spared}
        stage.begin()
        await stage.until(1.0)
        assert stage.called() == ALL
        assert Peek(stage.view).choose(None).endpoint != spared  # type: ignore[union-attr]
        stage.asked.says = {A: NO, B: NO}
        await stage.until(11.0)
        (level,) = stage.view.selection.plan.levels
        assert (level.healthy, level.degraded, level.load, level.degraded_load) == (1, 1, 50, 50)
        stage.asked.says = {A: NO, B: NO, C: NO}
        await stage.until(21.0)
        assert stage.called() == {spared.address}
        stage.asked.says, stage.asked.degraded = {}, set()
        since = stage.cluster.members[spared.address].since
        await stage.until(61.0)
        assert stage.called() == {*ALL, spared.address}
        assert stage.cluster.members[spared.address].since == since  # it was well all the time
        turns = [when for when, _, address, _ in stage.told("endpoint.healthy") if address == spared.address]
        assert turns == [0.0, 30.0]

    staged(main, policy(), A, B, C, spared)


def test_one_that_takes_itself_out_is_in_no_share_until_it_passes_again() -> None:
    """Of four that count, two are well: no panic at a half; of five it would be one."""
    others = [Endpoint(f"10.0.1.{n}:80") for n in (1, 2)]

    async def main(stage: Stage) -> None:
        stage.asked.says = dict.fromkeys(others, NO)
        stage.begin()
        await stage.until(1.0)
        checking, leaving = stage.view.checking, stage.cluster.members[C.address]
        assert checking is not None
        for _ in range(2):
            checking.take_out(leaving)
        await stage.until(1.1)
        assert stage.called() == {A.address, B.address}
        assert stage.told("endpoint.unhealthy", "panic.entered")[2:] == [
            (1.0, "endpoint.unhealthy", C.address, "x-envoy-immediate-health-check-fail in an answer")
        ]
        stage.asked.says[C] = SILENT
        await stage.until(11.0)
        assert describe(stage.view)["endpoints"][2]["check"]["reason"] == "no answer"
        assert not stage.view.panicking  # that it is out on purpose is not forgotten
        del stage.asked.says[C]
        await stage.until(31.0)
        assert stage.called() == ALL
        stage.asked.says[C] = NO
        await stage.until(41.0)
        assert stage.view.panicking

    staged(main, policy(healthy_threshold=2).replace(panic_threshold=0.5), A, B, C, *others)


def test_one_that_left_meanwhile_cannot_take_itself_out() -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(1.0)
        checking, leaving = stage.view.checking, stage.cluster.members[C.address]
        assert checking is not None
        stage.set(A, B)
        checking.take_out(leaving)
        await stage.until(2.0)
        assert stage.told("endpoint.unhealthy") == []

    staged(main, policy(), A, B, C)


@pytest.mark.parametrize("ignored", [False, True])
def test_newcomers_may_be_in_no_share_before_their_first_check(ignored: bool) -> None:
    """One that is well and three that are new make a panic, or not."""
    newcomers = [Endpoint(f"10.0.1.{n}:80") for n in (1, 2, 3)]

    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(1.0)
        stage.asked.takes = dict.fromkeys(newcomers, 0.5)
        stage.set(A, *newcomers)
        assert bool(stage.view.panicking) is not ignored
        stage.asked.says = dict.fromkeys(newcomers, NO)
        await stage.until(2.0)
        assert stage.view.panicking

    staged(main, policy(ignore_new_hosts_until_first_hc=ignored).replace(panic_threshold=0.5), A)


def test_a_panic_calls_the_unhealthy_too_but_not_those_that_refuse_connections() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO, C: REFUSED}
        stage.begin()
        await stage.until(1.0)
        assert stage.told("panic.entered") == [(0.0, "panic.entered", "", None)]
        assert stage.called() == {A.address, B.address}
        stage.asked.says = {}
        await stage.until(31.0)
        assert stage.called() == ALL
        assert [event[1] for event in stage.told("panic.left")] == ["panic.left"]

    staged(main, policy().replace(panic_threshold=0.5), A, B, C)


def test_without_panic_nobody_is_called_when_all_are_ill() -> None:
    """As when a registry says so."""

    async def main(stage: Stage) -> None:
        stage.asked.says = {A: NO, B: NO}
        stage.begin()
        await stage.until(1.0)
        assert stage.called() == set()

    staged(main, policy(), A, B)


def test_state_and_explanation_say_what_was_found() -> None:
    spared = Endpoint("10.0.0.4:80")

    async def main(stage: Stage) -> None:
        stage.begin()
        stage.asked.says = {B: NO}
        stage.asked.degraded = {spared}
        await stage.until(5.0)
        stage.asked.takes = {C: 0.5}
        stage.set(A, B, C, spared)
        found = describe(stage.view)
        assert [endpoint["check"] for endpoint in found["endpoints"]] == [
            {"passed": True, "takes_calls": True, "degraded": False, "reason": None},
            {"passed": False, "takes_calls": False, "degraded": False, "reason": "HTTP 500"},
            {"passed": None, "takes_calls": False, "degraded": False, "reason": "not checked yet"},
            {"passed": True, "takes_calls": True, "degraded": True, "reason": None},
        ]
        text = explain(found)
        assert "2 of 4 endpoints take calls" in text
        assert "1 of 4 endpoints are well and 1 degraded" in text
        assert f"{B.address}: unhealthy by its check (HTTP 500);" in text
        assert f"{C.address}: unhealthy by its check (not checked yet);" in text
        assert text.endswith("health check: a function")
        none = describe(View(stage.cluster, Policy()))
        assert [endpoint["check"] for endpoint in none["endpoints"]] == [None] * 4
        (own,) = (line for line in explain(none).splitlines() if line.startswith("  policy: "))
        assert "health check" not in own

    staged(main, policy(), A, B, spared)


def test_a_look_sees_it_too() -> None:
    """Of a picker that has turns, looks have one of their own."""

    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO}
        stage.begin()
        await stage.until(1.0)
        peek = Peek(stage.view)
        assert {peek.choose(None).endpoint for _ in range(20)} == {A}  # type: ignore[union-attr]

    staged(main, policy().replace(load_balancer=RoundRobin()), A, B)


def test_an_error_says_how_many_fail_it() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.says = {A: NO, B: NO}
        stage.begin()
        await stage.until(1.0)
        exchange = Exchange()
        call = Call(stage.view, exchange, 1.0, 2.0)
        done = call.poll(1.0)
        assert isinstance(done, Done)
        assert "none of its 2 endpoints may take traffic, 2 fail their health check" in str(done.outcome.error)

    staged(main, policy(), A, B)


def test_who_waits_for_an_endpoint_is_woken_when_one_is_well() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.says = {A: NO}
        stage.begin()
        await stage.until(5.0)
        stage.asked.says = {}
        waiting = asyncio.ensure_future(await_until(stage.cluster, lambda: bool(stage.called()), until=100.0))
        await stage.until(25.0)
        assert waiting.done()
        assert await waiting

    staged(main, policy(), A)


def test_refused_connections_have_discovery_asked_again() -> None:
    class Doubted:
        times = 0

        def doubt(self) -> None:
            self.times += 1

    async def main(stage: Stage) -> None:
        doubted = Doubted()
        stage.cluster.follower = doubted  # type: ignore[assignment]
        stage.asked.says = {A: REFUSED, B: NO}
        stage.begin()
        await stage.until(50.0)
        assert doubted.times == 1
        stage.cluster.follower = None

    staged(main, policy(), A, B)


def test_a_check_that_is_passed_ends_an_ejection_where_the_policy_says_so() -> None:
    """Of the views that check so and not of others; and not while checks, too, keep it from calls."""

    async def main(stage: Stage) -> None:
        eager = OutlierDetection(consecutive_gateway_failure=1, successful_active_health_check_uneject_host=True)
        patient = OutlierDetection(consecutive_gateway_failure=1, base_ejection_time=60.0)
        checked = View(stage.cluster, policy().replace(outlier_detection=eager))
        unmoved = View(stage.cluster, policy().replace(outlier_detection=patient))
        alike = OutlierDetection(consecutive_gateway_failure=2, successful_active_health_check_uneject_host=True)
        unchecked = View(stage.cluster, Policy(outlier_detection=alike))
        stage.asked.says = {B: SILENT}
        stage.begin()
        await stage.until(9.0)
        for view in (checked, unmoved, unchecked):
            for endpoint in (A, B):
                member = stage.cluster.members[endpoint.address]
                for _ in range(2):
                    member.started += 1
                    view.settle(member, (), lost(), stage.clock.now(), 0.0)
        assert [set(view.ejections()) for view in (checked, unmoved, unchecked)] == [ALL - {C.address}] * 3
        await stage.until(11.0)
        assert set(checked.ejections()) == {B.address}
        assert set(unmoved.ejections()) == set(unchecked.ejections()) == {A.address, B.address}
        assert stage.told("endpoint.restored") == [(10.0, "endpoint.restored", A.address, None)]

    staged(main, policy(), A, B, C)


def fail(stage: Stage, *endpoints: Endpoint, view: View | None = None, times: int = 5) -> None:
    """Let attempts at these fail with a reset."""
    for endpoint in endpoints:
        member = stage.cluster.members[endpoint.address]
        for _ in range(times):
            member.started += 1
            (view or stage.view).settle(member, (), lost(), stage.clock.now(), 0.0)


@pytest.mark.parametrize("panic_threshold", [0.0, 0.5])
def test_the_last_that_passes_its_checks_is_not_ejected(panic_threshold: float) -> None:
    """Also for a policy without checks that ejects alike: both go by the same ejections."""

    async def main(stage: Stage) -> None:
        unchecked = View(stage.cluster, Policy(outlier_detection=OutlierDetection()))
        elsewhere = View(stage.cluster, Policy(outlier_detection=OutlierDetection(interval=9.0)))
        stage.asked.says = {A: NO, B: NO}
        stage.begin()
        await stage.until(1.0)

        fail(stage, C)
        fail(stage, C, view=unchecked)
        fail(stage, C, view=elsewhere)

        assert set(stage.view.ejections()) == set(unchecked.ejections()) == set()
        assert set(elsewhere.ejections()) == {C.address}
        assert "1 of 3 endpoints" in explain(describe(stage.view))

    staged(main, policy().replace(outlier_detection=OutlierDetection(), panic_threshold=panic_threshold), A, B, C)


def test_one_that_is_out_and_then_fails_its_checks_does_not_keep_the_next_one_in() -> None:
    """Two of three die: each is ejected by the calls that find it, before its check does."""

    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(1.0)
        fail(stage, A)
        stage.asked.says = {A: NO}
        await stage.until(11.0)
        assert set(stage.view.failing()) == set(stage.view.ejections()) == {A.address}

        fail(stage, B)
        fail(stage, C)

        assert set(stage.view.ejections()) == {A.address, B.address}
        assert stage.called() == {C.address}

    staged(main, policy().replace(outlier_detection=OutlierDetection(base_ejection_time=60.0)), A, B, C)


def test_one_that_fails_its_checks_and_the_calls_of_a_panic_is_ejected() -> None:
    """It leaves as many that could be called as before; and a panic asks nobody who refuses connections."""

    async def main(stage: Stage) -> None:
        stage.asked.says = {A: NO, B: NO}
        stage.begin()
        await stage.until(1.0)

        fail(stage, A)

        assert set(stage.view.ejections()) == {A.address}

    staged(main, policy().replace(outlier_detection=OutlierDetection(), panic_threshold=0.5), A, B, C)


def test_policies_that_check_alike_share_what_is_found_and_others_have_their_own() -> None:
    async def main(stage: Stage) -> None:
        alike = View(stage.cluster, policy().replace(timeout=3.0, outlier_detection=OutlierDetection()))
        other = View(stage.cluster, policy(interval=5.0))
        none = View(stage.cluster, Policy())
        stage.asked.says = {B: SILENT}
        stage.begin()
        await stage.until(1.0)
        assert stage.asked.asked[B] == [0.0, 0.0]
        stage.asked.says = {}
        await stage.until(19.0)
        found = [{c.endpoint for c in view.picker.cells} for view in (stage.view, alike, other, none)]
        assert found == [{A}, {A}, {A, B}, {A, B}]

    staged(main, policy(), A, B)


def test_they_end_when_nobody_wants_them_any_more_and_begin_anew_when_somebody_does() -> None:
    async def main(stage: Stage) -> None:
        passing = View(stage.cluster, policy(interval=3.0))
        stage.begin()
        await stage.until(4.0)
        assert len(stage.asked.asked[A]) == 3
        del passing
        gc.collect()
        await stage.until(9.0)
        assert len(stage.asked.asked[A]) == 3
        assert [task.cancelled() for task in stage.worker.tasks] == [False, True]
        again = View(stage.cluster, policy(interval=3.0))
        stage.cluster.health.start()
        await stage.until(9.5)
        assert len(stage.asked.asked[A]) == 4
        assert not again.failing()

    staged(main, policy(), A)


def test_a_closed_service_asks_no_more_and_lets_its_connections_go() -> None:
    async def main(stage: Stage) -> None:
        stage.asked.takes = {A: 0.7}
        stage.begin()
        await stage.until(0.5)
        stage.cluster.close()
        await stage.until(100.0)
        assert stage.asked.asked == {A: [0.0], B: [0.0]}
        assert stage.asked.closed
        assert stage.asked.under_way == 0

    staged(main, policy(), A, B)


def test_in_a_forked_child_all_begins_afresh() -> None:
    """Nothing is known, nothing runs, and the first call starts it."""

    async def main(stage: Stage) -> None:
        stage.asked.says = {B: NO}
        stage.begin()
        await stage.until(1.0)
        assert set(stage.view.failing()) == {B.address}
        await stage.end()
        stage.cluster.reset_after_fork()
        stage.cluster.rebuild()
        assert stage.view.failing() == {}
        assert stage.view.choose() is None
        assert stage.called() == {A.address, B.address}
        stage.begin()
        await stage.until(2.0)
        assert stage.called() == {A.address}
        assert stage.asked.asked[B] == [0.0, 1.0]

    staged(main, policy(), A, B)


def test_many_that_fail_together_make_few_new_pickers(monkeypatch) -> None:
    many = [Endpoint(f"10.0.{n // 250}.{n % 250 + 1}:80") for n in range(300)]

    async def main(stage: Stage) -> None:
        stage.begin()
        await stage.until(5.0)
        built = []
        rebuild = stage.view.rebuild
        monkeypatch.setattr(stage.view, "rebuild", lambda now: [built.append(now), rebuild(now)][1])
        stage.asked.says = dict.fromkeys(many[:150], NO)
        await stage.until(12.0)
        assert len(stage.view.failing()) == 150
        assert 1 <= len(built) <= 2 + 300 / module.MOST_AT_ONCE

    staged(main, policy(), *many)
