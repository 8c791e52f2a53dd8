"""Processes: started, stopped, ended, and none left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svcmesh.cli.demo import fleet as module
from svcmesh.cli.demo.fleet import Fleet

PATIENT = "import signal, sys, time; print('up', file=sys.stderr, flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + PATIENT
POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: open('bye', 'w').close() or sys.exit(0)); " + PATIENT
)


def of(code: str) -> Callable[[str], list[str]]:
    """Return a command for every name that runs ``code``."""
    return lambda _: [sys.executable, "-c", code]


def started(fleet: Fleet, home: Path, *names: str) -> list[int]:
    """Start processes, wait until they say that they are up, and return their ids."""
    for name in names:
        fleet.start(name)
    until = time.monotonic() + 60
    while not all("up" in (home / f"{name}.log").read_text() for name in names):
        assert time.monotonic() < until, "a process did not start"
        time.sleep(0.01)
    return [fleet._processes[name].pid for name in names]


def gone(pid: int) -> bool:
    """Whether a process exists no more, not even as one that nobody waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def state(pid: int) -> str:
    """Return the state of a process: S for sleeping, T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_good_end_is_told_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving without an error sends SIGTERM, to frozen ones too, and waits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "LEAVING", 60.0)
    with Fleet(tmp_path, of(POLITE)) as fleet:
        (pid,) = started(fleet, tmp_path, "a-1")
        fleet.signal("a-1", signal.SIGSTOP)

    assert gone(pid)
    assert (tmp_path / "bye").exists()


def test_an_error_ends_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving by an error kills, without waiting for farewells."""
    monkeypatch.chdir(tmp_path)
    pids: list[int] = []

    def run() -> None:
        with Fleet(tmp_path, of(POLITE)) as fleet:
            pids.extend(started(fleet, tmp_path, "a-1", "a-2"))
            raise KeyError

    with pytest.raises(KeyError):
        run()

    assert [gone(pid) for pid in pids] == [True, True]
    assert not (tmp_path / "bye").exists()


def test_who_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM without effect is followed by SIGKILL."""
    monkeypatch.setattr(module, "LEAVING", 0.1)
    with Fleet(tmp_path, of(STUBBORN)) as fleet:
        (pid,) = started(fleet, tmp_path, "a-1")

    assert gone(pid)


def test_freezing_and_killing(tmp_path: Path) -> None:
    """SIGSTOP stops a process and SIGCONT lets it run on; a killed one is gone when the call returns."""
    with Fleet(tmp_path, of(PATIENT)) as fleet:
        (pid,) = started(fleet, tmp_path, "a-1")
        fleet.signal("a-1", signal.SIGSTOP)
        until = time.monotonic() + 60
        while state(pid) != "T":
            assert time.monotonic() < until, "it was not stopped"
            time.sleep(0.005)
        fleet.signal("a-1", signal.SIGCONT)
        while state(pid) == "T":
            assert time.monotonic() < until, "it was not continued"
            time.sleep(0.005)
        fleet.signal("a-1", signal.SIGKILL)

        assert gone(pid)
        assert fleet.failed() is None, "who was killed has not failed"


def test_a_server_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    """Its name, its status and its last words are in the report."""
    with Fleet(tmp_path, of("import sys; sys.exit('no free port')")) as fleet:
        fleet.start("a-1")
        fleet._processes["a-1"].wait(60)

        assert fleet.failed() == "server a-1 ended with status 1: no free port"


def test_servers_are_in_groups_of_their_own(tmp_path: Path) -> None:
    """Ctrl-C on the terminal, which goes to the group of the demo, does not reach them; its session they share."""
    with Fleet(tmp_path, of(PATIENT)) as fleet:
        (pid,) = started(fleet, tmp_path, "a-1")

        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == os.getsid(0)
