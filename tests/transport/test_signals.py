"""A signal to stop waits until something is done, and then has the effect that it had before."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from svcmesh import leave_on_signal
from svcmesh.transport.signals import OnSignal

PATIENCE = 30.0


class Leaver:
    """A registration that leaves when the test lets it, and tells where and when it did."""

    def __init__(self, story: list[str] | None = None, name: str = "left") -> None:
        self.story = [] if story is None else story
        self.name = name
        self.begun, self.may = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def begin_to_leave(self) -> None:
        self.begun.set()

    def deregister(self) -> None:
        self.thread = threading.current_thread()
        assert self.may.wait(PATIENCE)
        self.story.append(self.name)


@pytest.fixture
def story() -> Iterator[list[str]]:
    """What handlers that are there already were told; they are put back, whatever the test does."""
    told: list[str] = []

    def handler(number: int, frame: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(signal.Signals(number).name)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield told
    for number, old in before.items():
        signal.signal(number, old)


def until(true: Any) -> None:
    """Wait on the main thread, where handlers run."""
    for _ in range(int(PATIENCE * 200)):
        if true():
            return
        threading.Event().wait(0.005)
    pytest.fail("it did not happen")


def test_the_handler_of_before_gets_the_signal_when_all_have_left(story: list[str]) -> None:
    """They leave at the same time, on a thread: the main one goes on as ever."""
    one, two = Leaver(story, "one"), Leaver(story, "two")
    with leave_on_signal(one, two):
        signal.raise_signal(signal.SIGTERM)
        assert one.begun.wait(PATIENCE)
        assert two.begun.wait(PATIENCE)
        assert story == []
        one.may.set()
        two.may.set()
        until(lambda: "SIGTERM" in story)
    assert story == ["one", "two", "SIGTERM"]
    assert one.thread is not threading.main_thread()


def test_supervisors_may_repeat_themselves(story: list[str]) -> None:
    """One signal to the group and one to the process are one wish to stop."""
    leaver = Leaver(story)
    with leave_on_signal(leaver):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        leaver.may.set()
        until(lambda: len(story) == 2)
    assert story == ["left", "SIGINT"]


def test_an_impatient_human_is_obeyed_at_once(story: list[str]) -> None:
    """And the signal is not given a second time when the registry is left at last."""
    leaver = Leaver(story)
    with leave_on_signal(leaver):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert story == ["SIGINT"]
    leaver.may.set()  # the end of the block did not wait for it
    until(lambda: story == ["SIGINT", "left"])


def test_something_else_can_be_done_instead(story: list[str]) -> None:
    leaver = Leaver(story)
    leaver.may.set()
    with leave_on_signal(leaver, then=lambda: story.append("then")):
        signal.raise_signal(signal.SIGTERM)
        until(lambda: "then" in story)
    assert story == ["left", "then"]


def test_signals_are_given_back(story: list[str]) -> None:
    """At the end of the block; what somebody else has put there meanwhile is left alone."""
    before = signal.getsignal(signal.SIGTERM)
    watch = leave_on_signal(Leaver())
    assert signal.getsignal(signal.SIGTERM) != before
    theirs = signal.signal(signal.SIGINT, signal.default_int_handler)
    watch.close()
    watch.close()
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert theirs is not None


def test_a_signal_that_came_at_the_last_moment_is_not_lost(story: list[str]) -> None:
    """The block ends while the registry is being left: the handler of before gets it after the block."""
    leaver = Leaver(story)
    with leave_on_signal(leaver):
        signal.raise_signal(signal.SIGTERM)
        leaver.may.set()
    until(lambda: "SIGTERM" in story)
    assert story == ["left", "SIGTERM"]


def test_a_block_that_ends_on_another_thread_keeps_no_signal(story: list[str]) -> None:
    """Only the main thread may put handlers back; ours stays and lets everything through."""
    watch = leave_on_signal(Leaver(story))
    thread = threading.Thread(target=watch.close)
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGTERM)
    assert story == ["SIGTERM"]


def test_work_that_fails_still_hands_the_signal_on(story: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in there must not make a server immortal."""
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def fail() -> None:
        raise KeyError

    with OnSignal(fail, [signal.SIGTERM], hand_on=True):
        signal.raise_signal(signal.SIGTERM)
        until(lambda: story == ["SIGTERM"])
    assert [each.exc_type for each in shown] == [KeyError]


def test_ignored_signals_stay_ignored(story: list[str]) -> None:
    """A shell does that to what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with leave_on_signal(Leaver()):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_on_another_thread_there_is_nothing_to_do(story: list[str]) -> None:
    """So a lifespan works in a test client that runs it on a thread."""
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        with leave_on_signal(Leaver()):
            assert signal.getsignal(signal.SIGTERM) == before
        story.append("done")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert story == ["done"]


async def test_a_loop_that_handles_the_signal_is_named() -> None:
    """Asyncio is told by the operating system: nobody can hold it back."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    try:
        with pytest.raises(RuntimeError, match="SIGTERM .*aio_serve_until_signal"):
            leave_on_signal(Leaver())
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


FORKING = """
import os, signal, sys, svcmesh
signal.signal(signal.SIGTERM, signal.SIG_DFL)
class Leaver:
    def begin_to_leave(self): pass
    deregister = begin_to_leave
with svcmesh.leave_on_signal(Leaver()) as watch:
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        if "closed" in sys.argv:
            watch.close()
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""


@pytest.mark.parametrize("how", ["open", "closed"])
def test_in_a_forked_child_the_signal_has_its_old_effect(how: str) -> None:
    """Its parent's registration is not its own, and the thread that would leave does not run there."""
    subprocess.run([sys.executable, "-W", "error", "-c", FORKING, how], check=True, timeout=120)


PROGRAM = """
import signal, time, svcmesh
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
class Leaver:
    def begin_to_leave(self): pass
    def deregister(self): print("left", flush=True)
with svcmesh.leave_on_signal(Leaver()):
    print("up", flush=True)
    while True: time.sleep(0.01)  # pause() sleeps on if the signal comes just before it
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_the_default_effect_is_the_end_of_the_process(number: int, status: int) -> None:
    """Killed by SIGTERM, KeyboardInterrupt at SIGINT, as without us."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("left\n", status)


SLEEPER = """
import signal, sys, time
from svcmesh import leave_on_signal

class Gone:
    def begin_to_leave(self): pass
    def deregister(self): pass

watch = leave_on_signal(Gone())
print("ready", flush=True)
time.sleep(600)
"""


def test_a_main_thread_that_sleeps_is_woken_when_there_is_nothing_to_leave() -> None:
    """The second signal may come while the handler is on its way back into the sleep, which would go on then."""
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
