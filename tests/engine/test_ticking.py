"""Looking back once per interval: on the worker, while there are calls, and not a moment longer."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast
from weakref import ref

import pytest

from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.outcome import Outcome
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.ticking import Ticking
from svcmesh.engine.view import View
from svcmesh.policy import OutlierDetection, Policy
from svcmesh.policy.outlier import OutlierDetector
from svcmesh.policy.outlier.detector import Tick
from svcmesh.testing import FakeClock
from tests.engine.scripted import late, status, success

FIVE = tuple(Endpoint(f"10.0.0.{number}:80") for number in range(1, 6))
A = FIVE[0].address
COMPARING = OutlierDetection(success_rate_request_volume=20, consecutive_gateway_failure=None)
STAYING = OutlierDetection.envoy(consecutive_5xx=1, enforcing_success_rate=0, max_ejection_percent=100)


class Service:
    """Five endpoints in virtual time, with a worker.

    Attributes:
        events: what was told of ejections: name, address, and the reason if there is one.
    """

    def __init__(self, config: OutlierDetection, *, timers: bool = True) -> None:
        self.clock = FakeClock(autojump=False)
        self.runtime = Runtime(self.clock, random.Random(1))
        self.cluster = Cluster("service", self.runtime, timers=timers)
        self.cluster.apply(Snapshot(FIVE, authoritative=True))
        self.view = View(self.cluster, Policy(outlier_detection=config))
        self.events: list[tuple[Any, ...]] = []
        self.listening = self.runtime.events.subscribe(self._note, "endpoint.ejected", "endpoint.restored")

    def _note(self, event: Any) -> None:
        self.events.append((event.name.removeprefix("endpoint."), event.endpoint.address, *_reason(event)))

    def call(self, address: str, times: int = 1, outcome: Outcome | None = None) -> None:
        """Let attempts at ``address`` end in ``outcome``, by default well."""
        member = self.cluster.members[address]
        for _ in range(times):
            now = self.clock.now()
            if now >= member.due:
                member.roll(now)
            member.started += 1
            self.view.settle(member, self.view.breakers.admit(member, now) or (), outcome or success(), now, 0.0)

    def advance(self, seconds: float) -> None:
        """Let time pass, once the worker has set the timers that it was asked for."""
        self.rest()
        self.clock.advance(seconds)

    def rest(self) -> None:
        """Wait until the worker, if there is one, has nothing more to do now."""
        if self.runtime.worker.running:
            done = self.runtime.worker.submit(asyncio.sleep(0))
            assert done is not None
            done.result(10)

    def serve(self, bad: Outcome, times: int = 20) -> None:
        """Let everybody serve ``times`` requests, the first one badly."""
        for endpoint in FIVE:
            self.call(endpoint.address, times, bad if endpoint.address == A else None)

    def look_and_serve(self, endpoints: Sequence[Endpoint] = FIVE) -> None:
        """Let these serve a request each, by calls that look for what is due as those of the machine do."""
        self.cluster.look(self.clock.now())
        for endpoint in endpoints:
            self.call(endpoint.address)

    @property
    def tickings(self) -> int:
        """How many policies have somebody look back."""
        return len(self.cluster.ejections._ticking)

    @property
    def ejected(self) -> dict[str, str]:
        return {address: ejection.reason for address, ejection in self.view.ejections().items()}

    @property
    def timers(self) -> bool:
        """Whether there is a tick to come."""
        self.rest()
        return self.clock.next_at() is not None


def _ignore(*found: object) -> None:
    """Nobody has to be told."""


def _reason(event: Any) -> tuple[str, ...]:
    return (event.reason,) if event.name == "endpoint.ejected" else ()


@pytest.fixture
def services() -> Iterator[list[Service]]:
    """What is put in here is closed at the end."""
    made: list[Service] = []
    yield made
    for service in made:
        service.runtime.close()
        service.runtime.join()


@pytest.fixture
def comparing(services: list[Service]) -> Service:
    services.append(Service(COMPARING))
    return services[0]


def test_whom_the_comparison_finds_is_out_at_the_end_of_the_interval_and_back_when_its_time_is_over(
    comparing: Service,
) -> None:
    comparing.serve(status("500"))
    comparing.advance(9.9)
    assert comparing.events == []

    comparing.advance(0.2)
    assert comparing.events == [("ejected", A, "success_rate")]
    assert A not in {cell.endpoint.address for cell in comparing.view.picker.cells}

    comparing.advance(5.6)
    assert comparing.events[1:] == [("restored", A)]
    assert comparing.ejected == {}


def test_500s_are_no_successes_to_who_compares_and_are_answers_to_breakers(comparing: Service) -> None:
    comparing.call(A, 3, status("500"))
    member = comparing.cluster.members[A]

    assert (member.succeeded, member.faulty, member.in_flight) == (3, 3, 0)


def test_it_stops_when_an_interval_has_brought_no_call_and_goes_on_with_the_next_call(comparing: Service) -> None:
    comparing.serve(success())
    assert comparing.timers
    comparing.advance(20.5)
    assert not comparing.timers

    comparing.advance(1000.0)
    comparing.serve(status("500"))
    comparing.advance(10.0)
    assert comparing.ejected == {A: "success_rate"}


def test_nothing_starts_before_the_first_call(comparing: Service) -> None:
    comparing.advance(100.0)

    assert not comparing.runtime.worker.running
    comparing.call(A)
    assert comparing.runtime.worker.running


@pytest.mark.parametrize("timers", [True, False])
def test_what_a_dropped_policy_wanted_costs_the_calls_of_others_nothing(services: list[Service], timers: bool) -> None:
    """One interval brings the calls that it may have made, another one shows that it is gone."""
    services.append(Service(OutlierDetection(), timers=timers))
    service = services[0]
    for seconds in (1.0, 2.0, 3.0):
        View(service.cluster, Policy(outlier_detection=replace(COMPARING, interval=seconds)))
    gc.collect()
    for _ in range(8):
        service.look_and_serve()
        service.advance(1.0)

    assert service.tickings == 0
    service.look_and_serve()
    assert not service.timers


def test_a_policy_of_which_a_view_lives_goes_on_when_others_of_it_are_dropped(comparing: Service) -> None:
    View(comparing.cluster, comparing.view.policy)
    gc.collect()
    for _ in range(5):
        comparing.serve(success())
        comparing.advance(10.0)
    comparing.serve(status("500"))
    comparing.advance(10.0)

    assert comparing.ejected == {A: "success_rate"}


def test_a_policy_that_is_made_anew_for_each_call_keeps_what_it_knows(services: list[Service]) -> None:
    """No view of it lives when the tick comes, but one has since the tick before."""
    services.append(Service(OutlierDetection()))
    service, config = services[0], replace(COMPARING, consecutive_5xx=5)
    for _ in range(5):
        service.view = View(service.cluster, Policy(outlier_detection=config))
        service.call(A, 1, late())
        service.look_and_serve(FIVE[1:])
        service.view = View(service.cluster, Policy())
        gc.collect()
        service.advance(10.0)

    assert service.events[:1] == [("ejected", A, "consecutive_5xx")]
    assert service.tickings == 1


def test_who_is_out_under_a_dropped_policy_comes_back_in_time_and_then_it_is_forgotten(
    services: list[Service],
) -> None:
    """Who makes the same policy meanwhile finds them out."""
    services.append(Service(STAYING))
    service = services[0]
    service.call(A, 1, late())
    service.view = View(service.cluster, Policy())
    gc.collect()
    service.advance(20.0)
    assert list(View(service.cluster, Policy(outlier_detection=STAYING)).ejections()) == [A]

    gc.collect()
    for _ in range(9):
        service.advance(10.0)
    assert service.events == [("ejected", A, "consecutive_5xx"), ("restored", A)]
    assert service.tickings == 0
    assert not service.timers
    assert View(service.cluster, Policy(outlier_detection=STAYING)).ejections() == {}


def test_a_tick_that_comes_after_the_end_ends_no_other(services: list[Service]) -> None:
    """A call on another thread may still hold what was dropped, while a new view wants the like again."""
    services.append(Service(OutlierDetection(), timers=False))
    service = services[0]
    View(service.cluster, Policy(outlier_detection=COMPARING))
    gc.collect()
    (old,) = service.cluster.ejections._comparing
    for now in (0.0, 10.0, 20.0, 30.0):
        old.start(now)
    assert service.tickings == 0

    service.view = View(service.cluster, Policy(outlier_detection=COMPARING))
    old.start(40.0)
    old.start(50.0)
    assert service.tickings == 1


def test_the_standard_policy_never_ticks(services: list[Service]) -> None:
    services.append(Service(OutlierDetection()))
    services[0].serve(success())

    assert not services[0].runtime.worker.running


def test_envoys_ejections_end_with_ticks_and_are_forgiven_by_ticks(services: list[Service]) -> None:
    """30 s, then back; then one interval in, another tick that forgives, and nothing is left to do."""
    services.append(Service(STAYING))
    service = services[0]
    service.advance(3.0)
    service.call(A, 1, late())
    assert service.events == [("ejected", A, "consecutive_5xx")]

    service.advance(29.9)
    assert service.ejected
    service.advance(0.2)
    assert service.events[1:] == [("restored", A)]

    service.advance(20.0)
    assert not service.timers


def test_a_refused_connection_is_not_dialled_where_ticks_decide(services: list[Service]) -> None:
    """Envoy would not either: an ejection lasts as long as was said."""
    services.append(Service(STAYING))
    refused = late()
    refused.reason = "connect-failure"
    services[0].call(A, 1, refused)
    ejection = services[0].view.ejections()[A]

    assert ejection.refusing
    services[0].rest()
    assert services[0].clock.next_at() == 10.0, "the next tick, and no probe before that"


def test_without_timers_the_call_that_is_due_looks_back(services: list[Service]) -> None:
    services.append(Service(COMPARING, timers=False))
    service = services[0]
    service.serve(status("500"))
    service.advance(10.0)
    assert service.ejected == {}

    service.call(FIVE[1].address)
    assert service.ejected == {A: "success_rate"}
    assert not service.runtime.worker.running


def test_a_call_looks_back_where_the_worker_is_late(services: list[Service]) -> None:
    """By more than a tenth of the interval: until then it may still come."""
    services.append(Service(COMPARING))
    service = services[0]
    service.runtime.worker.close()
    service.serve(status("500"))
    service.clock.advance(10.9)
    service.call(FIVE[1].address)
    assert service.ejected == {}

    service.clock.advance(0.2)
    for endpoint in FIVE:
        service.call(endpoint.address)
    assert service.ejected == {A: "success_rate"}


def test_after_a_sleep_of_the_machine_one_tick_makes_up_for_all(services: list[Service]) -> None:
    services.append(Service(COMPARING, timers=False))
    service = services[0]
    service.serve(success())
    service.advance(1234.0)
    service.serve(status("500"))
    assert service.ejected == {}, "the first call was in the long interval, the others in a new one"

    service.advance(10.0)
    service.call(FIVE[1].address)
    assert service.ejected == {A: "success_rate"}


def test_who_leaves_while_out_is_forgotten_and_starts_afresh(services: list[Service]) -> None:
    services.append(Service(STAYING))
    service = services[0]
    service.call(A, 1, late())
    service.cluster.apply(Snapshot(FIVE[1:], authoritative=True))
    assert service.ejected == {}
    service.advance(100.0)
    service.cluster.apply(Snapshot(FIVE, authoritative=True))
    service.call(A, 1, late())

    assert [round(ejection.seconds) for ejection in service.view.ejections().values()] == [30]
    assert [name for name, *_ in service.events] == ["ejected", "ejected"]


def test_unhealthy_endpoints_are_of_those_that_envoy_counts(services: list[Service]) -> None:
    """Ten percent of ten are one, although the registry calls nine of them unhealthy."""
    services.append(Service(OutlierDetection.envoy(consecutive_5xx=1)))
    ill = [Endpoint(f"10.0.1.{number}:80", health=Health.UNHEALTHY) for number in range(9)]
    services[0].cluster.apply(Snapshot((FIVE[0], *ill), authoritative=True))
    services[0].call(A, 1, late())

    assert services[0].ejected == {A: "consecutive_5xx"}


def test_a_timer_that_comes_after_a_call_has_looked_back_does_nothing(services: list[Service]) -> None:
    """Two looks in one interval would halve it for whoever is compared."""

    class Looking:
        def __init__(self) -> None:
            self.looks: list[float] = []

        def tick(self, hosts: object, now: float, population: int) -> Tick:
            self.looks.append(now)
            return Tick([], [], idle=False)

    services.append(Service(COMPARING))
    service, detector = services[0], Looking()
    ticking = Ticking(service.cluster, COMPARING, cast("OutlierDetector", detector), lambda: 5, _ignore, _ignore)
    ticking.join(service.view)
    ticking.start(0.0)
    service.rest()
    ticking.start(11.0)  # a call, and the worker is late
    service.advance(30.0)

    assert detector.looks == [11.0, 20.0, 30.0]


def test_a_timer_keeps_nothing_alive(services: list[Service]) -> None:
    """Else a mesh that is dropped would live for as long as somebody is out."""
    services.append(Service(COMPARING))
    service = services[0]
    detector = OutlierDetector(COMPARING, random.Random(1))
    ticking = Ticking(service.cluster, COMPARING, detector, lambda: 5, _ignore, _ignore)
    ticking.start(0.0)
    service.rest()
    gone = ref(ticking)
    del ticking
    gc.collect()

    assert service.clock.next_at() == 10.0
    assert gone() is None
    service.advance(10.0)
    assert not service.timers
