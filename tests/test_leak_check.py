"""The leak check itself: it must fail on each kind of leak, and stay silent on what goes away by itself."""

from __future__ import annotations

import _thread
import dataclasses
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.leak_check import Census, leftovers

ROOT = Path(__file__).parents[1]

LEAKS = {
    "thread": """
        import threading
        forever = threading.Event()
        def test_it():
            threading.Thread(target=forever.wait, name="leaky", daemon=True).start()
        """,
    "socket": """
        import socket
        kept = []
        def test_it():
            kept.append(socket.socket())
        """,
    "pipe": """
        import os
        def test_it():
            os.pipe()
        """,
    "child": """
        import subprocess, sys
        kept = []
        def test_it():
            kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        """,
    "zombie": """
        import os
        def test_it():
            if os.fork() == 0:
                os._exit(0)
        """,
    "raw_thread": """
        import _thread
        lock = _thread.allocate_lock()
        lock.acquire()
        def test_it():
            _thread.start_new_thread(lock.acquire, ())
        """,
    "grandchild": """
        import os, subprocess, sys
        reader, writer = os.pipe()
        start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], start_new_session=True)"
        def test_it():
            subprocess.run([sys.executable, "-c", start], stdin=reader, check=True)
        """,
    "deadline": """
        import svcmesh
        def test_it():
            svcmesh.deadline(60).__enter__()
        """,
    "task": """
        import asyncio
        kept = []
        async def test_it():
            kept.append(asyncio.create_task(asyncio.Event().wait()))
        """,
    "loop": """
        import asyncio
        kept = []
        def test_it():
            kept.append(asyncio.new_event_loop())
        """,
}
SAYS = {
    "thread": "thread 'leaky'",
    "socket": "file descriptor * (socket:*",
    "pipe": "file descriptor * (pipe:*",
    "child": "child process *python*",
    "zombie": "child process *",
    "raw_thread": "thread [0-9]* that Python does not know",
    "grandchild": "process * (*input()), whose parent has ended",
    "deadline": "an ambient deadline",
    "task": "task <coroutine object Event.wait*",
    "loop": "file descriptor * (socket:*",
}


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run a test file in a pytest of its own, under the leak check with little patience unless told otherwise."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'src'}")
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")

    def run_files(patience: float = 0.3, own_patience: float = 5.0, **sources: str) -> pytest.RunResult:
        pytester.makeconftest(
            "pytest_plugins = ['tests.leak_check']\n"
            "def pytest_configure():\n    from tests import leak_check\n"
            f"    leak_check.GRACE, leak_check.OWN_GRACE = {patience}, {own_patience}\n"
        )
        pytester.makepyfile(**{name: textwrap.dedent(source) for name, source in sources.items()})
        quick = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        return pytester.runpytest_subprocess(*quick)

    return run_files


def test_fails_on_each_kind_of_leak(run) -> None:
    """A test that passes and leaves something behind is an error that names it."""
    result = run(**{f"test_{kind}": source for kind, source in LEAKS.items()})

    result.assert_outcomes(passed=len(LEAKS), errors=len(LEAKS))
    for says in SAYS.values():
        result.stdout.fnmatch_lines([f"left behind: *{says}*"])


def test_silent_on_what_is_cleaned_up(run) -> None:
    """What a test closes, what a cycle holds, and what ends by itself a moment later are no leaks."""
    result = run(
        patience=30.0,
        test_clean="""
        import asyncio, os, socket, subprocess, sys, threading, time

        def test_closed():
            with socket.socket():
                subprocess.run([sys.executable, "-c", ""], check=True)

        def test_ends_soon():
            threading.Thread(target=time.sleep, args=(0.05,)).start()

        async def test_task_ends_soon():
            asyncio.create_task(asyncio.sleep(0.05))

        async def test_executor_of_the_loop():
            await asyncio.to_thread(int)
        """,
    )

    result.assert_outcomes(passed=4)


def test_a_failed_test_is_reported_once(run) -> None:
    """What a failing test leaves is not reported: its traceback keeps everything alive."""
    result = run(test_bad="import os\ndef test_it():\n    os.pipe()\n    assert False\n")

    result.assert_outcomes(failed=1)


def test_a_test_that_skips_its_rest_leaves_nothing_either(run) -> None:
    """Who skips has not failed, and an expected failure has: its traceback, too, keeps everything alive."""
    result = run(
        test_skips="""
        import os, pytest

        def test_skips():
            os.pipe()
            pytest.skip("no more of it here")

        @pytest.mark.xfail
        def test_fails():
            os.pipe()
            assert False
        """
    )

    result.assert_outcomes(skipped=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines(["left behind: file descriptor * (pipe:*"])


def test_a_deadline_left_behind_is_none_to_the_next_test(run) -> None:
    """Also when the test that left it failed."""
    result = run(
        test_deadlines="""
        import svcmesh

        def test_leaves():
            svcmesh.deadline(60).__enter__()

        def test_fails():
            assert svcmesh.remaining() is None
            svcmesh.deadline(60).__enter__()
            assert False

        def test_next():
            assert svcmesh.remaining() is None
        """
    )

    result.assert_outcomes(passed=2, failed=1, errors=1)


def test_a_thread_of_svcmesh_has_less_time_to_end(run) -> None:
    """The longest that closing waits for one; others are given time in the measure of slow machines."""
    result = run(
        patience=30.0,
        own_patience=0.2,
        test_late="""
        import threading, time

        def test_own():
            threading.Thread(target=time.sleep, args=(1.0,), name="svcmesh-worker").start()

        def test_other():
            threading.Thread(target=time.sleep, args=(1.0,), name="other").start()
        """,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["left behind: thread 'svcmesh-worker'"])


def test_the_way_out_needs_a_reason(run) -> None:
    """`allow_leaks` lets a test leave things, and only with a reason."""
    result = run(
        test_marked="""
        import os, pytest

        @pytest.mark.allow_leaks("shows that it can")
        def test_with_reason():
            os.pipe()

        @pytest.mark.allow_leaks
        def test_without():
            pass
        """
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*allow_leaks needs a reason*"])


OPEN_CALLS = {
    "in_flight": """
        import svcmesh

        def test_it():
            with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
                mesh.service("orders").attempt().__enter__()
        """,
    "probe": """
        import pytest, svcmesh
        from svcmesh.testing import FakeClock

        def test_it():
            breaker = svcmesh.CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0)
            clock = FakeClock()
            with svcmesh.Mesh({"orders": ["a:1"]}, policy=svcmesh.Policy(circuit_breaker=breaker), clock=clock) as mesh:
                service = mesh.service("orders")
                with pytest.raises(ConnectionResetError), service.attempt():
                    raise ConnectionResetError
                clock.advance(5.0)
                assert service.view.breakers.admit(service.view.members()[0], clock.now())
        """,
    "one_that_failed": """
        import svcmesh

        def test_it():
            with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
                mesh.service("orders").attempt().__enter__()
                assert False
        """,
}


def test_fails_on_calls_that_services_still_count(run) -> None:
    """Although the test passed, and has closed its mesh; what a failed test leaves is not reported."""
    result = run(**{f"test_{kind}": source for kind, source in OPEN_CALLS.items()})

    result.assert_outcomes(passed=2, errors=2, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "left behind: an ambient deadline; service 'orders' still counts 1 in flight at 127.0.0.1:1",
            "left behind: service 'orders' still counts 1 under way as probes of the breaker of 'orders a:1'",
        ]
    )


def test_silent_on_a_call_that_ends_a_moment_later(run) -> None:
    result = run(
        patience=30.0,
        test_soon="""
        import threading, time
        import svcmesh

        def test_it():
            with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
                threading.Thread(target=mesh.service("orders").guard(time.sleep), args=(0.05,)).start()
        """,
    )

    result.assert_outcomes(passed=1)


@pytest.mark.skipif(sys.platform != "linux", reason="threads that Python does not know are listed by Linux only")
async def test_sees_a_raw_thread_beside_those_of_grpc() -> None:
    """Those of its core are not counted, and hide none."""
    await _call_both_ways()
    lock = _thread.allocate_lock()
    with lock:
        before = Census.take()
        raw = _thread.start_new_thread(lock.acquire, ())
        await _call_both_ways()
        assert [left for left in leftovers(before, grace=1.0) if "that Python does not know" in left], raw
    assert not [left for left in leftovers(before) if "that Python does not know" in left]
    lock.release()


async def test_grpc_leaves_nothing_once_closed() -> None:
    """Blocking and asyncio gRPC end their poller threads and close their sockets with the last channel."""
    before = Census.take()
    await _call_both_ways()

    assert leftovers(before) == []


def test_a_reused_number_is_another_descriptor() -> None:
    """Closing one descriptor and leaving another under its number does not go unnoticed."""
    reader, writer = os.pipe()
    before = Census.take()
    os.close(reader)
    other_reader, other_writer = os.pipe()
    try:
        assert other_reader == reader
        assert len(leftovers(before, grace=0)) == 2
    finally:
        for number in (writer, other_reader, other_writer):
            os.close(number)


@pytest.mark.skipif(sys.platform != "linux", reason="children are listed by Linux only")
def test_sees_children() -> None:
    """A child is in the census until it has been waited for."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert child in Census.take().children
    os.waitpid(child, 0)
    assert child not in Census.take().children


@pytest.mark.skipif(sys.platform != "linux", reason="children are listed by Linux only")
def test_a_child_that_a_look_missed_is_not_taken_for_a_new_one() -> None:
    """The thread that made it ended during the look, so that its children changed hands unseen."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = dataclasses.replace(Census.take(), children=frozenset())
        later = dataclasses.replace(before, ticks=before.ticks + 1)
        assert not [left for left in leftovers(later, grace=0) if f"process {child.pid} " in left]
        assert [
            left for left in leftovers(dataclasses.replace(before, ticks=0), grace=0) if f"process {child.pid} " in left
        ]
        child.kill()


async def _call_both_ways() -> None:
    import grpc

    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, [grpc.method_handlers_generic_handler("echo.Echo", {"Say": echo})])
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        with grpc.insecure_channel(target) as channel:
            assert channel.unary_unary("/echo.Echo/Say")(b"blocking", timeout=30) == b"blocking"
        async with grpc.aio.insecure_channel(target) as channel:
            assert await channel.unary_unary("/echo.Echo/Say")(b"awaited", timeout=30) == b"awaited"
        server.stop(None).wait()
