"""The one thread of a mesh: it starts at need, ends when told, and nobody who comes late is hurt."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Coroutine
from concurrent.futures import CancelledError

import pytest

from svcmesh.engine.worker import Worker


def ended(worker: Worker) -> None:
    worker.close()
    worker.join()
    assert not worker.running


def test_nothing_runs_until_something_is_asked_for() -> None:
    before = threading.active_count()
    worker = Worker("test")
    assert not worker.running

    async def name() -> str:
        return threading.current_thread().name

    future = worker.submit(name())
    assert future is not None
    assert future.result(30) == "test"
    assert threading.active_count() == before + 1
    ended(worker)


def test_closing_cancels_what_runs_and_lets_it_clean_up() -> None:
    worker = Worker("test")
    cleaned = threading.Event()
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    future = worker.submit(work())
    assert future is not None
    assert started.wait(30)
    ended(worker)

    assert cleaned.is_set()
    with pytest.raises(CancelledError):
        future.result(0)


def test_what_comes_after_the_end_is_dropped_without_a_warning() -> None:
    worker = Worker("test")
    ended(worker)

    async def never() -> None:
        raise AssertionError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert worker.submit(never()) is None
        worker.call(lambda _: pytest.fail("called"))
        gc.collect()
    assert not worker.running


@pytest.mark.parametrize("lacking", ["files", "threads"])
def test_one_that_could_not_start_starts_the_next_time(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may have had no file or no thread left for it just then. Nothing is left behind, and nobody warned."""
    worker = Worker("test")

    async def work() -> str:
        return "done"

    def refuse(*_: object) -> None:
        raise OSError("Too many open files") if lacking == "files" else RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("error")
        if lacking == "files":
            patched.setattr(asyncio, "new_event_loop", refuse)
        else:
            patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises((OSError, RuntimeError), match="Too many|can't start"):
            worker.submit(work())
        with pytest.raises((OSError, RuntimeError), match="Too many|can't start"):
            worker.call(lambda _: pytest.fail("called"))
        gc.collect()
    assert not worker.running
    future = worker.submit(work())
    assert future is not None
    assert future.result(30) == "done"
    ended(worker)


def test_submitting_while_it_closes_never_raises() -> None:
    """A call in flight sets timers while another thread closes the mesh."""
    for _ in range(30):
        worker = Worker("test")
        worker.call(lambda _: None)
        go = threading.Event()
        raised: list[BaseException] = []

        def use(worker: Worker = worker, go: threading.Event = go, raised: list[BaseException] = raised) -> None:
            go.wait()
            try:
                for _ in range(50):
                    worker.call(lambda _: None)
            except RuntimeError as error:
                raised.append(error)

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        go.set()
        worker.close()
        for thread in threads:
            thread.join()
        worker.join()
        assert raised == []


def test_closing_waits_for_nothing_even_on_its_own_thread() -> None:
    """The garbage collector may close a mesh on the mesh's own worker."""
    worker = Worker("test")
    done = threading.Event()

    def close(_: object) -> None:
        worker.close()
        worker.join()
        done.set()

    worker.call(close)
    assert done.wait(30)
    worker.join()
    assert not worker.running


def test_a_task_that_was_just_made_begins_before_it_is_cancelled() -> None:
    """A library wraps what it runs; a wrapper that is cancelled before it begins never awaits what it holds."""
    worker = Worker("test")
    begun = threading.Event()
    tasks = []

    async def wrapped() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def wrapper(held: Coroutine[None, None, None]) -> None:
        await held

    def make(loop: asyncio.AbstractEventLoop) -> None:
        worker.close()
        loop.call_soon(lambda: tasks.append(loop.create_task(wrapper(wrapped()))))  # in the loop's last round

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        worker.call(make)
        assert begun.wait(30)
        worker.join(30)
        gc.collect()
    assert [str(one.message) for one in told] == []
    assert tasks[0].cancelled()
    assert not worker.running
