"""The composition root: what is shared, what starts when, what ends how, and what wrong input gets."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

import svcmesh
from svcmesh import (
    Abort,
    CircuitBreaker,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    Event,
    Fault,
    Mesh,
    NoEndpoints,
    Policy,
    Retry,
    Snapshot,
    info,
)
from svcmesh.testing import FakeClock

SERVERS = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]


class Silent:
    """A registry that never answers, or fails when told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        if self.error is not None:
            raise self.error
        await asyncio.get_running_loop().create_future()
        yield Snapshot(())


BAD = {
    "scheme": lambda: Mesh("nonsense://x"),
    "address": lambda: Mesh({"a": ["nowhere"]}),
    "port 0": lambda: Mesh({"a": ["h:0"]}),
    "port 70000": lambda: Mesh({"a": ["h:70000"]}),
    "IPv6 without brackets": lambda: Mesh({"a": ["::1:80"]}),
    "twice": lambda: Mesh({"a": ["h:1", "h:1"]}),
    "discovery": lambda: Mesh(3),  # type: ignore[arg-type]
    "policy": lambda: Mesh(policy="standard"),  # type: ignore[arg-type]
    "services": lambda: Mesh(services=["a"]),  # type: ignore[arg-type]
    "settings": lambda: Mesh(services={"a": 3}),  # type: ignore[dict-item]
    "uri in settings": lambda: Mesh(services={"a": ("nonsense://", Policy())}),
    "policy in settings": lambda: Mesh(services={"a": ("static://h:1", None)}),  # type: ignore[dict-item]
    "empty name": lambda: Mesh({}).service(""),
    "no name": lambda: Mesh({}).service(None),  # type: ignore[arg-type]
    "uri": lambda: Mesh({}).service("static://h"),
    "policy of a service": lambda: Mesh({}).service("a", policy={}),  # type: ignore[arg-type]
    "NaN timeout": lambda: Policy(timeout=float("nan")),
    "negative timeout": lambda: Policy(timeout=-1),
    "attempts": lambda: Retry(max_attempts=0),
    "percent": lambda: Abort(503, percent=101),
    "strategy": lambda: Retry(stop=3),  # type: ignore[arg-type]
    "deadline": lambda: svcmesh.deadline(-1),
    "pattern": lambda: Mesh({}).events.subscribe(print, "nothing"),
    "explain": lambda: Mesh({}).explain("unused"),
    "resilient": lambda: svcmesh.resilient(3),  # type: ignore[arg-type]
    "not callable": lambda: svcmesh.resilient(Policy())(3),  # type: ignore[type-var]
    "wait_ready": lambda: Mesh({}).service("a").wait_ready(-1),
    "port of a registration": lambda: Mesh().register("a", port=70000),
    "name of a registration": lambda: Mesh().register("", port=1),
    "registry": lambda: Mesh({}).register("a", port=1),
}


@pytest.mark.parametrize("what", BAD)
def test_wrong_input_is_a_clear_error_at_once(what: str) -> None:
    """Nothing has been started by then: no thread is left."""
    threads = threading.active_count()

    with pytest.raises(ConfigError) as caught:
        BAD[what]()

    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 20
    assert threading.active_count() == threads


def test_an_unknown_service_is_said_within_a_second(tmp_path: Path) -> None:
    with Mesh(f"local://{tmp_path}/registry") as mesh, pytest.raises(NoEndpoints, match="'nobody'"):
        mesh.service("nobody").guard(lambda: None)()


def test_a_silent_registry_does_not_hold_a_call_past_its_deadline() -> None:
    with Mesh(Silent(), policy=Policy(timeout=0.05)) as mesh:
        with pytest.raises(DeadlineExceeded, match="waiting for its endpoints"):
            mesh.service("service").guard(lambda: None)()
        assert "no answer yet" in mesh.explain("service")


def test_a_failing_registry_is_named_as_the_cause() -> None:
    clock = FakeClock(patience=0.5)  # real seconds for the worker to begin
    with Mesh(Silent(OSError("registry down")), policy=Policy(timeout=3.0), clock=clock) as mesh:
        with pytest.raises(DeadlineExceeded, match="registry down") as caught:
            mesh.service("service").guard(lambda: None)()
        assert isinstance(caught.value.__cause__, svcmesh.DiscoveryError)
        assert clock.now() == pytest.approx(3.0)


def test_every_event_of_a_call_is_emitted() -> None:
    heard: list[Event] = []
    breaker = CircuitBreaker(scope="service", consecutive=5, failure_rate=None)
    policy = Policy.standard().replace(
        circuit_breaker=(CircuitBreaker(consecutive=9, failure_rate=None), breaker),
        retry=Retry(wait=lambda _: 0.0, budget=None),
    )
    with Mesh({"service": SERVERS}, policy=policy) as mesh:
        mesh.events.subscribe(heard.append)
        service = mesh.service("service")

        @service.guard(idempotent=True)
        def fail() -> None:
            raise ConnectionResetError

        with mesh.faults.inject(service, Fault(abort=Abort(503), percent=50)):
            for _ in range(60):
                with pytest.raises((OSError, svcmesh.SvcmeshError)):
                    fail()
    names = {event.name for event in heard}
    assert names >= {
        "endpoints.changed",
        "endpoint.ejected",
        "breaker.changed",
        "panic.entered",
        "retry.scheduled",
        "retry.refused",
        "call.rejected",
        "fault.injected",
        "attempt.finished",
        "call.finished",
    }
    assert {event.service for event in heard} == {"service"}
    assert all(event.time > 0 for event in heard)


def test_listeners_may_raise_and_call_back_into_the_mesh() -> None:
    """Subscribing, explaining, reading the state and calling, from inside of every event."""
    heard: list[str] = []
    with Mesh({"service": SERVERS, "other": SERVERS}) as mesh:
        depth = threading.local()

        def listener(event: Event) -> None:
            heard.append(event.name)
            if getattr(depth, "inside", False):
                return
            depth.inside = True
            try:
                mesh.events.subscribe(print, "panic.*").close()
                assert "service" in mesh.explain("service")
                json.dumps(mesh.state())
                mesh.service("other").guard(lambda: None)()
                raise ValueError("listener's own")
            finally:
                depth.inside = False

        mesh.events.subscribe(listener)
        mesh.service("service").guard(lambda: None)()
    assert {"call.finished", "listener.failed"} <= set(heard)


def test_errors_travel_between_processes_with_their_story() -> None:
    breaker = CircuitBreaker(scope="service", consecutive=1, failure_rate=None)
    with Mesh({"service": SERVERS}, policy=Policy(circuit_breaker=breaker)) as mesh:
        guarded = mesh.service("service").guard(_reset)
        with pytest.raises(ConnectionResetError):
            guarded()
        with pytest.raises(CircuitOpen) as caught:
            guarded()
    again = pickle.loads(pickle.dumps(caught.value))

    assert str(again) == str(caught.value)
    assert again.retry_after == caught.value.retry_after
    assert info(again) == info(caught.value)
    assert info(again).reason == "breaker"


def _reset() -> None:
    raise ConnectionResetError


def test_five_hundred_services_used_once_need_no_thread_each(tmp_path: Path) -> None:
    threads = threading.active_count()
    with Mesh({f"service-{n}": SERVERS for n in range(500)}) as given:
        for n in range(500):
            given.service(f"service-{n}").guard(lambda: None)()
        assert threading.active_count() == threads
    with Mesh(f"local://{tmp_path}/registry") as watched:
        for n in range(500):
            with pytest.raises(NoEndpoints):
                watched.service(f"service-{n}").guard(lambda: None)()
        assert threading.active_count() == threads + 1


def test_a_mesh_that_is_dropped_is_collected_with_its_thread() -> None:
    """Neither a warning nor a thread is left, though its watches still run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mesh = Mesh(Silent())
        service = mesh.service("service")
        with pytest.raises(NoEndpoints):
            service.wait_ready(0)
        worker = mesh._runtime.worker
        assert worker.running
        weak = ref(mesh)
        del mesh
        gc.collect()
        assert weak() is not None  # a service keeps its mesh alive
        del service
        gc.collect()
        assert weak() is None
        worker.join()
        assert not worker.running


class Watcher:
    """Has a mesh, and listens to it."""

    def __init__(self) -> None:
        self.mesh = Mesh(Silent())

    def hear(self, event: Event) -> None:
        """Need nothing but the mesh."""
        self.mesh.state()


def _drop_while_it_listens(how: str) -> tuple[Any, ref[Mesh]]:
    watcher = Watcher()
    service = watcher.mesh.service("service")
    listener = watcher.hear if how == "bound method" else lambda _: service.endpoints
    watcher.mesh.events.subscribe(listener)
    with pytest.raises(NoEndpoints):
        service.wait_ready(0)
    return watcher.mesh._runtime.worker, ref(watcher.mesh)


@pytest.mark.parametrize("how", ["bound method", "closure over a service"])
def test_listeners_that_refer_to_their_mesh_do_not_keep_it(how: str) -> None:
    """The running worker refers to the events, and they to their listeners: that must not close a circle."""
    worker, weak = _drop_while_it_listens(how)
    gc.collect()

    assert weak() is None
    worker.join()
    assert not worker.running


def test_listeners_are_heard_while_anything_of_their_mesh_is_used() -> None:
    heard: list[Event] = []
    mesh = Mesh({"service": SERVERS})
    mesh.events.subscribe(heard.append, "call.finished")
    guarded = mesh.service("service").guard(lambda: 1)
    del mesh
    gc.collect()
    guarded()

    assert [event.name for event in heard] == ["call.finished"]


def test_a_guarded_function_keeps_its_mesh_alive() -> None:
    guarded = Mesh({"service": SERVERS}).service("service").guard(lambda: 1)
    gc.collect()

    assert guarded() == 1


def test_an_attempt_keeps_its_mesh_alive() -> None:
    attempt = Mesh(Silent(), policy=Policy(timeout=0.05)).service("service").attempt()
    gc.collect()

    with pytest.raises(DeadlineExceeded), attempt:  # it waited: a mesh that is gone refuses at once
        raise AssertionError("there is no endpoint")


def test_closing_refuses_what_waits_and_what_is_new_and_may_be_repeated() -> None:
    mesh = Mesh(Silent(), policy=Policy())
    service = mesh.service("service")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            service.guard(lambda: None)()
        except NoEndpoints as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not service.view.cluster._waiters:
        threading.Event().wait(0.001)
    mesh.close()
    mesh.close()
    thread.join(30)

    assert "closed" in str(raised[0])
    with pytest.raises(NoEndpoints, match="closed"):
        service.guard(lambda: None)()
    with pytest.raises(RuntimeError, match="closed"):
        mesh.service("new")
    with pytest.raises(RuntimeError, match="closed"):
        mesh.register("new", port=1)


@pytest.mark.parametrize("fails", [False, True])
def test_closing_while_calls_run_harms_none_of_them(fails: bool) -> None:
    """What is under way ends as it ends; nothing new is begun, retries included, so the real error is seen."""
    mesh = Mesh({"service": SERVERS})
    service = mesh.service("service")
    inside, go = threading.Event(), threading.Event()
    calls: list[int] = []
    results: list[Any] = []

    @service.guard(idempotent=True)
    def fn() -> str:
        calls.append(1)
        inside.set()
        go.wait(30)
        if fails:
            raise ConnectionResetError
        return "done"

    def call() -> None:
        try:
            results.append(fn())
        except ConnectionResetError:
            results.append("reset")

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait(30)
    mesh.close()
    go.set()
    thread.join(30)

    assert results == ["reset" if fails else "done"]
    assert calls == [1]
    assert all(member.in_flight == 0 for member in service.view.cluster.members.values())
    with pytest.raises(svcmesh.NoEndpoints, match="closed"):
        fn()


async def test_it_can_be_closed_without_blocking_the_loop() -> None:
    async with Mesh({"service": SERVERS}) as mesh:
        assert await mesh.service("service").guard(_answer)() == 42
    with pytest.raises(RuntimeError, match="closed"):
        mesh.service("new")


async def _answer() -> int:
    return 42


EXITS = {
    "in a function": """
threading.Thread(target=mesh.service("given").guard(lambda: time.sleep(600)), daemon=True).start()
""",
    "waiting for endpoints": """
threading.Thread(target=silent.service("s").guard(lambda: None), daemon=True).start()
""",
    "waiting for a retry": """
def fail(): raise ConnectionResetError
policy = Policy(retry=Retry(wait=lambda _: 600.0, budget=None))
threading.Thread(target=mesh.service("given").guard(idempotent=True, policy=policy)(fail), daemon=True).start()
""",
    "never closed": """
mesh.service("given").guard(lambda: None)()
try: silent.service("s").wait_ready(0.01)
except svcmesh.NoEndpoints: pass
""",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends_quietly_and_at_once(how: str) -> None:
    program = f"""
import asyncio, logging, threading, time, svcmesh
from svcmesh import Mesh, Policy, Retry
logging.getLogger("asyncio").addFilter(lambda told: "took" not in told.msg)  # the debug mode tells of slow machines
class Silent:
    async def watch(self, service):
        await asyncio.get_running_loop().create_future()
        yield
mesh = Mesh({{"given": ["127.0.0.1:1", "127.0.0.1:2"]}}, policy=Policy())
silent = Mesh(Silent(), policy=Policy())
{EXITS[how]}
time.sleep(0.2)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
