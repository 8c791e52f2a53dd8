"""Processes as they are in production: forked with a mesh in them, recycled, ended in the middle of calls.

Each program runs in an interpreter of its own with warnings as errors, and may not say a word but what is expected.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import svcmesh
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.servers.ports import HeldPort

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GRPC_")},
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
}
PREPARE = """
import asyncio, multiprocessing, os, signal, sys, threading, time
import svcmesh
probe, web = sys.argv[1:3]
mesh = svcmesh.Mesh({"probe": [probe], "web": [web]})
channel = mesh.service("probe").grpc_channel()
def method(channel, kind, name):
    return getattr(channel, kind)("/svcmesh.test.Probe/" + name)
unary = method(channel, "unary_unary", "Unary")
client = mesh.service("web").http_client()
def task(*_):
    unary(b"", timeout=30)
    client.post("/echo").raise_for_status()
    return os.getpid()
def late(loop, context):
    if "PollerCompletionQueue" not in context["message"] and not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)
"""
"""`late` is for loops that run after one has ended with calls open: what gRPC learns of these it brings to whichever
loop runs, which complains that theirs is closed, or that its descriptor is. So do stock channels, where a busy machine
brings the news so late."""


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    with GrpcServer("probe") as probe, HttpServer("web") as web:
        yield probe.address, web.address


def run(program: str, addresses: tuple[str, str], *arguments: str, seconds: float = 120.0) -> str:
    """Run a program after `PREPARE`; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", PREPARE + program, *addresses, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=False)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout + done.stderr
    return done.stdout


PREFORK = """
if "used" in sys.argv:
    task()
alive = []
for end in (os._exit, sys.exit) * 2:  # Celery's way and gunicorn's
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        for _ in range(3):
            task()
        end(0)
    alive.append(child)
task()
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in alive] == [0] * 4
task()
"""


@pytest.mark.parametrize("used", ["used", "new"])
def test_a_mesh_made_before_workers_are_forked(addresses: tuple[str, str], used: str) -> None:
    """Called before the fork or not: every call of parent and children succeeds, and all end quietly."""
    assert run(PREFORK, addresses, used) == ""


RECYCLED = """
import tempfile
with tempfile.TemporaryDirectory() as directory:
    registry = f"local://{directory}/registry"
    with mesh.register("celery", port=7, uri=registry) as registration:
        while not registration.registered:
            time.sleep(0.01)
        for _ in range(3):
            child = os.fork()
            if child == 0:
                assert not registration.registered
                registration.deregister()
                task()
                sys.exit(0)  # runs what an interpreter runs at its end
            assert os.waitpid(child, 0)[1] == 0
        with svcmesh.Mesh(registry) as other:
            other.service("celery").wait_ready(30)
        assert registration.registered
    mesh.close()
"""


def test_workers_that_come_and_go_do_not_take_their_parents_registration_along(addresses: tuple[str, str]) -> None:
    run(RECYCLED, addresses)


AIO = """
import gc, grpc
async def go():
    async with mesh.service("probe").grpc_aio_channel() as channel:
        await method(channel, "unary_unary", "Unary")(b"", timeout=30)
asyncio.run(go())
if tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 85):
    gc.collect()  # a closed channel lies in a cycle, and gRPC's thread goes with it
until = time.monotonic() + 30
while os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
    time.sleep(0.01)  # gRPC ends its threads in the background, and a child that is forked meanwhile may hang
child = os.fork()
if child == 0:
    signal.alarm(60)
    asyncio.run(go())
    os._exit(0)
asyncio.run(go())
assert os.waitpid(child, 0)[1] == 0
"""


def test_asyncio_channels_that_were_closed_before_the_fork(addresses: tuple[str, str]) -> None:
    """And are gone, which grpcio 1.83 and 1.84 leave to the collector. Others hang: see docs/howto/processes.md."""
    assert run(AIO, addresses) == ""


POOLS = """
task()
with multiprocessing.get_context("fork").Pool(2) as pool:
    pids = pool.map(task, range(6))
assert os.getpid() not in pids
task()
"""


def test_pools_of_multiprocessing_that_fork(addresses: tuple[str, str]) -> None:
    assert run(POOLS, addresses) == ""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_multiprocessing_starts_afresh(addresses: tuple[str, str], method: str, tmp_path: Path) -> None:
    """They import the module again, and so make a mesh of their own."""
    program = tmp_path / "program.py"
    main = f"""
if __name__ == "__main__":
    task()
    process = multiprocessing.get_context({method!r}).Process(target=task)
    process.start()
    process.join()
    assert process.exitcode == 0
"""
    program.write_text(PREPARE + main)
    command = [sys.executable, "-W", "error", str(program), *addresses]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_what_lives_in_a_process_says_that_it_cannot_leave_it(copied: Callable[[object], object]) -> None:
    """And what to do instead."""
    with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
        orders = mesh.service("orders")
        async with orders.grpc_aio_channel() as channel:
            made = (
                orders.grpc_channel(),
                orders.http_transport(),
                orders.http_async_transport(),
                mesh.http_transport(),
            )
            for each in (mesh, orders, channel, *made):
                with pytest.raises(TypeError, match=f"^{type(each).__name__} cannot be pickled.* Make a Mesh in the"):
                    copied(each)


LOOPS = """
failed = []
async def go(kept=None):
    asyncio.get_running_loop().set_exception_handler(late)
    channel = kept or mesh.service("probe").grpc_aio_channel()
    async with mesh.service("web").http_async_client() as client:
        work = method(channel, "unary_unary", "Unary")
        for _ in range(5):
            await asyncio.gather(*(work(b"", timeout=30) for _ in range(4)), *(client.post("/echo") for _ in range(4)))
    await channel.close()
def thread():
    try:
        asyncio.run(go())
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=thread) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
assert not failed, failed
kept = mesh.service("probe").grpc_aio_channel()
async def leave_open():
    method(kept, "unary_unary", "Unary")(b"", metadata=(("x-hang", "1"),))
    asyncio.ensure_future(method(kept, "unary_unary", "Unary")(b"", metadata=(("x-hang", "1"),)).code())
    await asyncio.sleep(0.1)
asyncio.run(leave_open())
asyncio.run(go(kept))
members = [member for name in ("probe", "web") for member in mesh.service(name).view.cluster.members.values()]
end = time.monotonic() + 30
while any(member.in_flight for member in members) and time.monotonic() < end:
    time.sleep(0.01)
print([member.in_flight for member in members])
"""


def test_loops_in_threads_share_a_mesh_and_one_may_end_with_calls_open(addresses: tuple[str, str]) -> None:
    """Those calls are no longer counted, and the next loop finds the same channel in order."""
    assert run(LOOPS, addresses) == "[0, 0]\n"


OPEN = """
HANG = (("x-hang", "1"),)
def dies(call):
    def run():
        try:
            call()
        except BaseException:
            pass
    threading.Thread(target=run, daemon=True).start()
dies(lambda: unary(b"", metadata=HANG))
dies(lambda: client.post("/slow/600"))
dies(mesh.service("web").guard(lambda: time.sleep(600)))
dies(lambda: mesh.service("nobody").wait_ready(600))
future = unary.future(b"", metadata=HANG)
pausing = method(channel, "unary_unary", "Read").future(b"", metadata=(("x-fail", "UNAVAILABLE:-1"),))
stream = method(channel, "unary_stream", "ServerStream")(bytes([16, 100]), metadata=(("x-delay", "0.05"),))
next(stream)
read = method(channel, "unary_stream", "ServerStream")(bytes([16, 100]), metadata=(("x-delay", "0.05"),))
dies(lambda: list(read))
never = threading.Event()
def requests():
    yield b""
    never.wait()
both = method(channel, "stream_stream", "BidiStream")(requests())
next(both)
answer = client.send(client.build_request("POST", "/drip"), stream=True)
"""
OPEN_AIO = """
aio, async_client = mesh.service("probe").grpc_aio_channel(), mesh.service("web").http_async_client()
HANG = (("x-hang", "1"),)
kept = []
async def main():
    work, streamed = method(aio, "unary_unary", "Unary"), method(aio, "unary_stream", "ServerStream")
    kept.append(work(b"", metadata=HANG))
    async def wait():
        await work(b"", metadata=HANG)
    kept.append(asyncio.ensure_future(wait()))
    kept.append(streamed(bytes([16, 100]), metadata=(("x-delay", "0.05"),)))
    await kept[-1].read()
    kept.append(asyncio.ensure_future(async_client.post("/slow/600")))
    kept.append(await async_client.send(async_client.build_request("POST", "/drip"), stream=True))
asyncio.run(main())
async def forever():
    asyncio.get_running_loop().set_exception_handler(late)
    channel = mesh.service("probe").grpc_aio_channel()
    await method(channel, "unary_unary", "Unary")(b"", metadata=HANG)
threading.Thread(target=lambda: asyncio.run(forever()), daemon=True).start()
"""
WAITED = """
def waits():
    try:
        unary(b"", metadata=(("x-hang", "1"),), timeout=0.5)
    except Exception as error:
        threading.main_thread().join()
        print(error.code().name)
    client.post("/slow/0.3")
    print("done")
threading.Thread(target=waits).start()
"""


@pytest.mark.parametrize(
    ("program", "says"),
    [(OPEN, "end\n"), (OPEN_AIO, "end\n"), (WAITED, "end\nDEADLINE_EXCEEDED\ndone\n")],
    ids=["blocking", "asyncio", "waited for"],
)
def test_the_interpreter_ends_with_calls_open(addresses: tuple[str, str], program: str, says: str) -> None:
    """Without a wait and without a word; threads that are no daemons finish theirs first, as Python promises."""
    assert run(program + "time.sleep(0.2)\nprint('end', flush=True)\n", addresses) == says


APP = """
import os, svcmesh
from contextlib import asynccontextmanager
mesh = svcmesh.Mesh(os.environ["REGISTRY"])  # before uvicorn starts its workers
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        with mesh.register("web", port=int(os.environ["PORT"])) as registration, svcmesh.leave_on_signal(registration):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        mesh.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def test_uvicorn_with_two_workers(tmp_path: Path) -> None:
    """Both register the port that they share; both have left when the server has ended, at one SIGTERM."""
    (tmp_path / "app.py").write_text(APP)
    registry = f"local://{tmp_path}/registry"
    port = HeldPort()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "app:app",
        "--workers",
        "2",
        "--port",
        str(port.number),
        "--log-level",
        "error",
    ]
    environment = ENVIRONMENT | {"REGISTRY": registry, "PORT": str(port.number)}
    with (
        port,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as server,
        svcmesh.Mesh(registry) as mesh,
    ):
        try:
            service = mesh.service("web")
            service.wait_ready(60)
            directory = tmp_path / "registry" / "web"
            end = time.monotonic() + 60
            while len(list(directory.glob("*.json"))) < 2:
                assert time.monotonic() < end, "the second worker has not registered"
                time.sleep(0.02)
            with service.http_client() as client:
                assert client.get("/").text
        finally:
            server.send_signal(signal.SIGTERM)
            _, complaints = server.communicate(timeout=60)
        assert complaints == ""
        assert not list(directory.glob("*.json"))
