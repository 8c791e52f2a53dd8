"""A child of a fork works afresh, and its parent is unharmed: own worker, counts and watches, no lock left held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from svcmesh import CircuitBreaker, CircuitOpen, Mesh, OutlierDetection, Policy, resilient
from svcmesh.events import Event

SERVERS = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]


def in_child(check: Callable[[], object], seconds: int = 20) -> None:
    """Run ``check`` in a forked child, which must return from it in time."""
    child = os.fork()
    if child == 0:
        import traceback

        signal.alarm(seconds)  # a deadlock ends the child
        try:
            check()
        except BaseException:  # noqa: BLE001 - told by the exit status
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + seconds + 10
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)  # its alarm was never set
            os.waitpid(child, 0)
            pytest.fail("the child hangs inside os.fork()")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_calls_counts_and_health_are_the_childs_own() -> None:
    with Mesh({"service": SERVERS}) as mesh:
        service = mesh.service("service")
        guarded = service.guard(lambda: 1)
        with service.attempt():

            def check() -> None:
                assert all(member.started == 0 for member in service.view.cluster.members.values())
                assert [guarded() for _ in range(10)] == [1] * 10
                assert all(member.in_flight == 0 for member in service.view.cluster.members.values())

            in_child(check)
        assert guarded() == 1
        assert sum(member.started for member in service.view.cluster.members.values()) == 2


def test_children_pick_by_chance_of_their_own(tmp_path: Path) -> None:
    """Else all processes of a server would call the same endpoints at the same time."""
    with Mesh({"service": [f"127.0.0.1:{n}" for n in range(1, 200)]}) as mesh:
        service = mesh.service("service")
        service.pick()
        for n in range(2):
            in_child(lambda n=n: (tmp_path / str(n)).write_text(" ".join(service.pick().address for _ in range(3000))))
    assert (tmp_path / "0").read_text() != (tmp_path / "1").read_text()


def test_a_child_follows_the_registry_by_itself(tmp_path: Path) -> None:
    """It begins with what its parent knew, and hears of what came later."""
    with Mesh(f"local://{tmp_path}/registry") as mesh:
        first = mesh.register("greeter", port=50051)
        service = mesh.service("greeter")
        service.wait_ready(30)

        def check() -> None:
            assert [endpoint.address for endpoint in service.view.cluster.offered] == [first.address]
            with Mesh(f"local://{tmp_path}/registry") as another, another.register("greeter", port=50052):
                for _ in range(3000):
                    service.guard(lambda: None)()
                    if len(service.endpoints) == 2:
                        return
                    threading.Event().wait(0.01)
            pytest.fail("the child did not hear of the second instance")

        in_child(check)
        assert service.guard(lambda: 1)() == 1


def test_locks_that_another_thread_held_are_not_inherited() -> None:
    with Mesh({"service": SERVERS}) as mesh:
        service = mesh.service("service")
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            ours = mesh._lock, mesh._directory._lock, mesh.events._lock, mesh._runtime.worker._lock
            with ours[0], ours[1], ours[2], ours[3], service.view.cluster.lock:
                held.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(30)

        def check() -> None:
            assert service.guard(lambda: 1)() == 1
            mesh.service("new")
            mesh.events.subscribe(print, "panic.*").close()
            mesh.state()
            mesh.close()

        in_child(check)
        done.set()
        thread.join()


def test_decorated_functions_start_afresh_too() -> None:
    def fail() -> None:
        raise KeyError

    guarded = resilient(Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None)))(fail)
    with pytest.raises(KeyError):
        guarded()

    def check() -> None:
        with pytest.raises(KeyError):
            guarded()

    in_child(check)
    with pytest.raises(CircuitOpen):
        guarded()


def test_a_child_that_ends_says_nothing_of_what_it_inherited() -> None:
    """No warning of the parent's loop, and the parent's worker goes on."""
    program = """
import logging, os, svcmesh, gc
logging.getLogger("asyncio").addFilter(lambda told: "took" not in told.msg)  # the debug mode tells of slow machines
class Silent:
    async def watch(self, service):
        yield svcmesh.Snapshot((svcmesh.Endpoint("127.0.0.1:1"),))
        import asyncio
        await asyncio.get_running_loop().create_future()
mesh = svcmesh.Mesh(Silent())
service = mesh.service("s")
service.wait_ready(30)
child = os.fork()
if child == 0:
    gc.collect()
    service.guard(lambda: None)()
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
mesh.service("t").wait_ready(30)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_locks_of_breakers_that_another_thread_holds_do_not_hold_up_the_child() -> None:
    """Of any policy of the service: none of them is asked before all are the child's own."""
    with Mesh({"service": SERVERS}, policy=Policy(circuit_breaker=CircuitBreaker(scope="service"))) as mesh:
        service = mesh.service("service")
        other = service.with_policy(Policy(circuit_breaker=CircuitBreaker(scope="service", open_for=7.0)))
        breakers = [view.breakers.of_service[0] for view in (service.view, other.view)]
        for breaker in breakers:
            breaker.settle(None, False, 0.0, service.view.traffic)
            breaker.state, breaker.half_opens_at = "open", float("inf")
        for breaker in breakers:
            with held(breaker._lock):
                in_child(other.guard(lambda: 1))


def test_a_child_calls_no_listener_while_it_is_forked() -> None:
    """A panic that the parent was in is over or goes on in the child without a word: a listener may want any lock."""
    heard: list[str] = []
    lock = threading.Lock()

    def listener(event: Event) -> None:
        with lock:
            heard.append(event.name)

    strict = Policy(outlier_detection=OutlierDetection(consecutive_gateway_failure=1), panic_threshold=0.9)
    with Mesh({"service": SERVERS}, policy=strict) as mesh:
        mesh.events.subscribe(listener, "panic.*")

        @mesh.service("service").guard
        def fail() -> None:
            raise ConnectionRefusedError

        with pytest.raises(ConnectionRefusedError):
            fail()
        assert heard == ["panic.entered"]
        with held(lock):
            in_child(lambda: None)


@contextmanager
def held(lock: threading.Lock) -> Iterator[None]:
    """Have another thread hold ``lock``."""
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            begun.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    yield
    over.set()
    thread.join()
