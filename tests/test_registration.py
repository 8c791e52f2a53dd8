"""This process as an instance of a service: announced, found, drained, taken back, and gone with its process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svcmesh import ConfigError, Event, Mesh, NoEndpoints
from svcmesh.events import EndpointsChanged


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll a condition to a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"local://{tmp_path}/registry"


def addresses(mesh: Mesh) -> list[str]:
    return [endpoint.address for endpoint in mesh.service("greeter").endpoints]


def test_what_is_registered_is_found_and_gone_when_it_left(uri: str) -> None:
    heard: list[Event] = []
    with Mesh(uri) as server, Mesh(uri) as client:
        server.events.subscribe(heard.append, "registration.*")
        with server.register("greeter", port=50051, tags=["a"], meta={"k": "v"}) as registration:
            eventually(lambda: addresses(client) == ["127.0.0.1:50051"])
            eventually(lambda: registration.registered)
            assert registration.address == "127.0.0.1:50051"
        eventually(lambda: addresses(client) == [])
        assert registration.left
    assert [event.name for event in heard] == ["registration.registered", "registration.left"]


async def test_the_same_awaited(uri: str) -> None:
    async with Mesh(uri) as mesh, mesh.register("greeter", port=50051) as registration:
        await mesh.service("greeter").wait_ready_async(30)
    assert registration.left


def test_one_that_nobody_holds_leaves_with_its_mesh(uri: str) -> None:
    """`mesh.register(…)` without a variable is the common case."""
    with Mesh(uri) as client:
        with Mesh(uri) as server:
            for number in range(20):
                server.register("greeter", port=50051 + number)
            eventually(lambda: len(addresses(client)) == 20)
            began = time.monotonic()
        assert time.monotonic() - began < 15  # all leave at the same time, each with a second of draining
        eventually(lambda: addresses(client) == [])


def test_leaving_waits_for_whoever_began_it_and_may_be_repeated(uri: str) -> None:
    with Mesh(uri) as mesh:
        registration = mesh.register("greeter", port=50051)
        eventually(lambda: registration.registered)
        first = threading.Thread(target=registration.deregister)
        first.start()
        eventually(lambda: registration.left)
        registration.deregister()
        assert not registration.registered
        first.join()
        registration.deregister()


@pytest.mark.parametrize("what", ["close", "deregister"])
def test_leaving_in_a_listener_on_the_worker_waits_for_nothing_and_still_happens(uri: str, what: str) -> None:
    took: list[float] = []
    with Mesh(uri) as client, Mesh(uri) as server:

        def leave(_: Event) -> None:
            began = time.monotonic()
            (server.close if what == "close" else registration.deregister)()
            took.append(time.monotonic() - began)

        registration = server.register("greeter", port=50051)
        eventually(lambda: addresses(client))
        eventually(lambda: registration.registered)
        server.events.subscribe(leave, "endpoints.changed")
        assert server.service("greeter").endpoints is not None
        eventually(lambda: took)
        assert took[0] < 4  # seconds; a wait for itself would last for longer
        eventually(lambda: not registration.registered)
        eventually(lambda: not addresses(client))


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_task_that_ends_while_it_leaves_harms_neither_the_leaving_nor_the_mesh(uri: str, how: str) -> None:
    async with Mesh(uri) as client:
        mesh = Mesh(uri)

        async def serve() -> None:
            async with mesh.register("greeter", port=50051, ttl=600):
                await mesh.service("greeter").wait_ready_async(30)
                asyncio.get_running_loop().call_soon(cancel)

        def cancel() -> None:  # runs while `serve` waits for its registration to leave
            if how == "cancelled":
                task.cancel()
            else:
                limit.reschedule(0)

        if how == "cancelled":
            task = asyncio.create_task(serve())
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    await serve()
        await mesh.aclose()
        mesh.close()
        eventually(lambda: not addresses(client))


def test_a_listener_that_holds_the_worker_does_not_hold_who_leaves(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcmesh.registration.LONGEST_LEAVE", 0.1)
    held, go_on = threading.Event(), threading.Event()

    def hold(_: Event) -> None:
        held.set()
        go_on.wait(30)

    with Mesh(uri) as mesh:
        registration = mesh.register("greeter", port=50051)
        eventually(lambda: registration.registered)
        mesh.events.subscribe(hold, "endpoints.changed")
        mesh.service("greeter").endpoints  # noqa: B018 - the worker begins to watch, and tells of what it finds
        assert held.wait(30)
        registration.deregister()
        assert registration.registered
        go_on.set()


_INTERRUPTED = {
    "in an async with": """
other = svcmesh.Mesh(uri)
other.register("greeter", port=50052, ttl=600)
async def main():
    async with svcmesh.Mesh(uri) as mesh, mesh.register("greeter", port=50051, ttl=600):
        await ready(mesh)
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
asyncio.run(main())
""",
    "in close": """
mesh = svcmesh.Mesh(uri)
mesh.register("greeter", port=50051, ttl=600)
other = svcmesh.Mesh(uri)
other.register("greeter", port=50052, ttl=600)
asyncio.run(ready(mesh))
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
mesh.close()
""",
    "at the end": """
meshes = [svcmesh.Mesh(uri) for _ in range(3)]
for number, mesh in enumerate(meshes):
    mesh.register("greeter", port=50051 + number, ttl=600)
asyncio.run(ready(meshes[0]))
child = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -INT {os.getpid()}"])
child.returncode = 0  # nobody waits for it
""",
}


@pytest.mark.parametrize("when", _INTERRUPTED)
def test_ctrl_c_while_leaving_leaves_nobody_registered(uri: str, when: str) -> None:
    program = f"""
import asyncio, os, signal, subprocess, svcmesh, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
uri, expected = {uri!r}, {3 if when == "at the end" else 2}
async def ready(mesh):
    while len(mesh.service("greeter").endpoints) < expected:
        await asyncio.sleep(0.01)
{_INTERRUPTED[when]}
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert "KeyboardInterrupt" in ended.stderr
    with Mesh(uri) as client, pytest.raises(NoEndpoints):
        client.service("greeter").wait_ready(0.3)


def test_draining_hides_it_while_it_stays_registered(uri: str) -> None:
    with Mesh(uri) as server, Mesh(uri) as client:
        registration = server.register("greeter", port=50051)
        eventually(lambda: addresses(client))
        registration.drain()
        eventually(lambda: not addresses(client))
        assert registration.registered


def test_a_process_that_ends_without_a_word_of_it_has_left(uri: str) -> None:
    program = f"""
import svcmesh, time
mesh = svcmesh.Mesh({uri!r})
mesh.register("greeter", port=50051)
mesh.service("greeter").wait_ready(30)
print("up", flush=True)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "up\n", "")
    with Mesh(uri) as client, pytest.raises(Exception, match="no endpoint"):
        client.service("greeter").wait_ready(0.3)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_that_ends_has_left(uri: str, tmp_path: Path, method: str) -> None:
    """It ends by os._exit, which asks no atexit."""
    program = tmp_path / "program.py"  # a file, for the child imports it
    program.write_text(f"""
import multiprocessing, svcmesh

def serve(channel):
    mesh = svcmesh.Mesh({uri!r})
    mesh.register("greeter", port=50051)
    mesh.service("greeter").wait_ready(30)
    channel.send(True)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there,))
    child.start()
    assert here.poll(60) and here.recv()
    child.join()
    raise SystemExit(child.exitcode)
""")
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    with Mesh(uri) as client, pytest.raises(NoEndpoints):
        client.service("greeter").wait_ready(0.3)


def test_registering_loads_no_multiprocessing(uri: str) -> None:
    program = f"""
import svcmesh, sys
with svcmesh.Mesh({uri!r}) as mesh, mesh.register("greeter", port=50051):
    assert "multiprocessing" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)


def test_a_killed_process_disappears_when_its_time_is_over(uri: str) -> None:
    program = (
        f"import svcmesh, time; r = svcmesh.Mesh({uri!r}).register('greeter', port=50051, ttl=1.0); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        with Mesh(uri) as client:
            eventually(lambda: addresses(client))
            process.kill()
            eventually(lambda: not addresses(client))
    finally:
        process.kill()
        process.wait()


def test_who_deletes_the_registry_takes_no_endpoint_away(uri: str, tmp_path: Path) -> None:
    """The servers live, and their heartbeats make it again, one after the other; until then all are used."""
    heard: list[Event] = []
    with Mesh(uri) as server, Mesh(uri) as client:
        for port in (50051, 50052):
            server.register("greeter", port=port, ttl=9.0)
        eventually(lambda: len(addresses(client)) == 2)
        client.events.subscribe(heard.append, "endpoints.changed")
        (tmp_path / "registry").rename(tmp_path / "gone")
        eventually(lambda: len(list((tmp_path / "registry").glob("greeter/*.json"))) == 2)
        assert len(addresses(client)) == 2
        assert not [event for event in heard if isinstance(event, EndpointsChanged) and event.removed]
        server.close()
        eventually(lambda: addresses(client) == [])


def test_a_forked_child_neither_heartbeats_nor_leaves(uri: str) -> None:
    with Mesh(uri) as mesh:
        registration = mesh.register("greeter", port=50051)
        eventually(lambda: registration.registered)
        child = os.fork()
        if child == 0:
            quiet = not registration.registered
            registration.deregister()
            mesh.close()
            os._exit(0 if quiet else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert addresses(mesh) or mesh.service("greeter").wait_ready(30) is None
        assert registration.registered


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0),
        ("weight", -1),
        ("ttl", 0),
        ("ttl", None),
        ("ttl", "10"),
        ("ttl", 86_401),
        ("host", "no host"),
        ("host", 3),
        ("host", ""),
        ("name", 3),
        ("name", ""),
        ("name", "x" * 5000),
        ("id", 3),
        ("id", "x" * 5000),
        ("meta", [1]),
        ("meta", {"a": 1}),
        ("meta", {1: "a"}),
        ("meta", {"a": "x" * 70_000}),
        ("tags", "abc"),
        ("tags", [1]),
        ("tags", 1),
        ("locality", "zone"),
    ],
)
def test_what_can_never_be_announced_is_refused_at_once(uri: str, field: str, value: object) -> None:
    with Mesh(uri) as mesh, pytest.raises(ConfigError, match=field):
        mesh.register(**{"name": "greeter", "port": 1, field: value})  # type: ignore[arg-type]
