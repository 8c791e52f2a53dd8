"""After every test: no thread, task, file descriptor or child process may be left that was not there before.

Nor a process that its children started, see `tests.orphans`, nor an ambient deadline. And no service that it made may
still count a call in flight, or a probe of a breaker: see `tests.open_calls`.

A library that owns a worker, channels, pools and heartbeats leaks in ways that no assertion of a test sees. So the
whole suite is looked at, from outside, by what the operating system and the interpreter list.

Only when something is left is it given time to go: gRPC closes sockets on
threads of its own, and cycles wait for the collector. gRPC needs no exception by name: its poller thread in Python
(`_poll_wrapper` of grpc.aio) ends and its sockets close with the last channel or server. How many epoll and event
descriptors its engine keeps is its own affair, and how many threads its core has, which bear names that it gave them:
they are what is not counted, and only once grpc is loaded.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests import open_calls, orphans

GRACE = 30.0
"""Seconds that what is left may take to go away by itself: gRPC's threads get their turn late on a busy machine."""

OWN_GRACE = 5.0
"""Seconds for threads of svcmesh: it waits for them itself where it closes, and no longer than this."""

BODY_FAILED = pytest.StashKey[bool]()

Descriptor = tuple[int, int, int]  # number, device, inode: a number that was closed and opened again is another one


@dataclass(frozen=True)
class Census:
    """What this process holds at one moment."""

    tasks: frozenset[int]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[Descriptor]
    children: frozenset[int]
    processes: frozenset[int]
    ticks: int

    @classmethod
    def take(cls) -> Census:
        """Count now."""
        return cls(
            _tasks(),
            frozenset(threading.enumerate()),
            frozenset(_descriptors()),
            frozenset(_children()),
            orphans.processes(),
            _ticks(),
        )

    def added_since(self, before: Census) -> list[str]:
        """Describe what is here and was not in ``before``; empty when nothing is."""
        return [
            *(f"thread {thread.name!r}" for thread in self.threads - before.threads),
            *(f"thread {task} that Python does not know" for task in self._unknown() if task not in before.tasks),
            *(f"file descriptor {_describe(number)}" for number, _, _ in self.descriptors - before.descriptors),
            *(
                f"child process {child} ({_command(child)})"
                for child in self.children - before.children
                if _born(child) >= before.ticks
            ),
            *(
                f"process {orphan} ({_command(orphan)}), whose parent has ended"
                for orphan in orphans.orphans(self.processes - before.processes)
            ),
        ]

    def _unknown(self) -> Iterator[int]:
        """Yield threads of the system that are none of Python's, nor of gRPC's core, which gives them names."""
        for task in self.tasks - {thread.native_id for thread in self.threads}:
            name = _thread_name(task)
            if name and ("grpc" not in sys.modules or name == _thread_name(os.getpid())):
                yield task


def leftovers(before: Census, grace: float | None = None) -> list[str]:
    """Return what a test left; waits up to ``grace`` seconds for it to go, and not at all when there is nothing."""
    left = Census.take().added_since(before)
    if left:
        time.sleep(0.001)  # a thread that has been joined is the system's for a moment longer
        left = Census.take().added_since(before)
    began = time.monotonic()
    while left:
        gc.collect()  # only now: a collection costs more than the whole test
        left = Census.take().added_since(before)
        waited = time.monotonic() - began
        if waited >= (GRACE if grace is None else grace) or (waited >= OWN_GRACE and any(map(_is_own_thread, left))):
            break
        time.sleep(0.01)
    return left


def calls_left() -> list[str]:
    """Return what calls of the test are still counted; waits as `leftovers` does."""
    left = open_calls.held()
    end = time.monotonic() + GRACE
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
        left = open_calls.held()
    return left


def deadlines_left(before: object) -> list[str]:
    """Return what ambient deadline a test left, and take it away: it would hold for all tests that follow."""
    if _ambient() == before:
        return []
    sys.modules["svcmesh.core.deadline"].AMBIENT.set(before)
    return ["an ambient deadline"]


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that passed and left something behind."""
    if _allowed(request.node):
        yield
        return
    before, ambient = Census.take(), _ambient()
    open_calls.remember()
    yield
    left = deadlines_left(ambient)
    if request.node.stash.get(BODY_FAILED, False):
        open_calls.forget()
        return  # its traceback holds on to everything; one failure is enough
    left += calls_left()
    open_calls.forget()
    left += leftovers(before)
    if left:
        pytest.fail("left behind: " + "; ".join(sorted(left)), pytrace=False)


@pytest_asyncio.fixture
async def no_leaked_tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail an asynchronous test after which tasks still run; closing the loop would cancel them unseen."""
    before = asyncio.all_tasks()
    yield
    end = time.monotonic() + GRACE
    while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        if request.node.stash.get(BODY_FAILED, False):
            return
        if time.monotonic() >= end:
            pytest.fail("left behind: " + "; ".join(sorted(f"task {task.get_coro()}" for task in left)), pytrace=False)
        await asyncio.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every asynchronous test ask for `no_leaked_tasks`, before its own fixtures and after `no_leaks`."""
    for item in items:
        if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
            continue
        names = item.fixturenames
        if "no_leaks" in names and "no_leaked_tasks" not in names and not _allowed(item):
            names.insert(names.index("no_leaks") + 1, "no_leaked_tasks")


def pytest_configure() -> None:
    """Mark what tests start."""
    orphans.mark()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember whether set-up or body failed, as expected or not; who skips the rest of a test leaves nothing, too."""
    report = yield
    if report.when != "teardown" and call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        item.stash[BODY_FAILED] = True
    return report


def _allowed(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("allow_leaks")
    if mark is None:
        return False
    if len(mark.args) != 1 or not isinstance(mark.args[0], str) or not mark.args[0].strip():
        raise pytest.UsageError(f"{item.nodeid}: allow_leaks needs a reason: @pytest.mark.allow_leaks('why')")
    return True


def _ambient() -> object:
    module = sys.modules.get("svcmesh.core.deadline")
    return None if module is None else module.AMBIENT.get()


def _is_own_thread(left: str) -> bool:
    return left.startswith("thread 'svcmesh")


def _tasks() -> frozenset[int]:
    """Return the threads of this process as the system counts them; none where it does not say."""
    return frozenset(map(int, os.listdir("/proc/self/task"))) if sys.platform == "linux" else frozenset()  # noqa: PTH208


def _thread_name(task: int) -> str:
    """Return what the system calls a thread; nothing when it has ended."""
    try:
        return Path(f"/proc/self/task/{task}/comm").read_text()
    except OSError:
        return ""


def _descriptors() -> Iterator[Descriptor]:
    tracker = _resource_tracker("_fd")
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):  # noqa: PTH208 - pathlib's is slower
        number = int(name)
        try:
            status = os.fstat(number)
        except OSError:
            continue  # the directory that was just listed
        kind = stat.S_IFMT(status.st_mode)
        if stat.S_ISCHR(status.st_mode) or number == tracker:
            continue  # terminals, /dev/null and /dev/urandom are opened by libraries once and for all
        if kind == 0 and "grpc" in sys.modules:
            continue  # epoll and eventfd of gRPC's engine
        yield number, status.st_dev, status.st_ino


def _children() -> Iterator[int]:
    """Yield direct children, those that ended and were not waited for included."""
    tracker = _resource_tracker("_pid")
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            text = listing.read_text()
        except OSError:
            continue  # the thread ended meanwhile
        yield from (int(child) for child in text.split() if int(child) != tracker)


def _ticks() -> int:
    """Return the time since the machine's start, in the unit of `_born`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) if sys.platform == "linux" else 0


def _born(child: int) -> int:
    """Return when a process began.

    Children are listed by the thread that made them, and go to another thread when that one ends: a look at that very
    moment misses them. What is older than the look before the test was not left by the test.
    """
    try:
        return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0  # gone meanwhile


def _resource_tracker(attribute: str) -> int | None:
    """Return a fact of multiprocessing's helper process, which lives until the interpreter ends."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return None if module is None else getattr(module._resource_tracker, attribute, None)


def _describe(number: int) -> str:
    try:
        return f"{number} ({Path(f'/proc/self/fd/{number}').readlink()})"
    except OSError:
        return str(number)


def _command(child: int) -> str:
    try:
        return Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80].strip()
    except OSError:
        return "gone"
