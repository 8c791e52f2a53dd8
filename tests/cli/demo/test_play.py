"""The demo as it is: real processes, real calls, and nothing left of it, however it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from svcmesh.cli.demo import play as module
from svcmesh.cli.demo.acts import ACTS
from svcmesh.cli.demo.interruption import Interruptible
from svcmesh.cli.demo.picture import Picture
from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.demo.svg import NAMESPACE
from tests.cli.demo.samples import LENGTH, Now, sample
from tests.servers.consul_agent import fake_consul
from tests.servers.etcd_process import NO_ETCD, etcd_binary

SOURCE = Path(__file__).parents[3] / "src"

ALL_KILLED = """
import sys
from pathlib import Path
from svcmesh.cli.demo.acts import GREETERS, ORDERS, Act
from svcmesh.cli.demo.interruption import Interruptible
from svcmesh.cli.demo.play import Settings, play
end = Act("end", "all are killed", 1.0, begin=lambda stage: stage.kill(*GREETERS, *ORDERS))
acts = [Act("steady", "all is well", 1.5), end]
with Interruptible() as signals:
    sys.exit(play(Settings(acts, Path("run.svg"), sys.stdout), signals))
"""

REGISTRY_DIES = """
import sys
from dataclasses import replace
from pathlib import Path
from svcmesh.cli.demo.acts import ACTS, JOINING, REGISTRY_DIES
from svcmesh.cli.demo.interruption import Interruptible
from svcmesh.cli.demo.play import Settings, play
from svcmesh.cli.demo.registry import source_for
joining = next(act for act in ACTS if act.title == JOINING)
acts = [replace(act, seconds=1.0) for act in (REGISTRY_DIES, joining)]
with Interruptible() as signals:
    source = source_for(sys.argv[1], sys.argv[2], {})
    sys.exit(play(Settings(acts, None, sys.stdout, source), signals))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the directory in which the demo is played; its temporary files go beside it."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path / "home"


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start an interpreter there, with warnings as errors and temporary files of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(home.parent / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leftovers(home: Path) -> list[str]:
    """Return what is left of a demo beside its picture: temporary files, and processes that name its directory."""
    until = time.monotonic() + 60
    while True:
        found = [str(path) for path in (home.parent / "tmp").iterdir()] + processes(str(home.parent / "tmp"))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def processes(word: str) -> list[str]:
    """Return the command lines that hold ``word``."""
    found: list[str] = []
    for listing in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = listing.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if word in command:
            found.append(command)
    return found


class Deserted:
    """A stage on which one server does not register."""

    def missing(self) -> set[str]:
        return {"orders-2"}


def test_servers_get_the_time_that_a_busy_machine_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """90 s as long as all are alive, and every ten a word about who is awaited."""
    now, said = Now(0.0), StringIO()

    def sleep(seconds: float) -> None:
        now.seconds += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now, sleep=sleep))
    stage: Any = Deserted()

    with pytest.raises(DemoError, match="orders-2 did not register within 90 s"):
        module._wait_until_ready(stage, Interruptible(), said)
    assert now.seconds == pytest.approx(90, abs=0.1)
    assert len(said.getvalue().splitlines()) == 8
    assert said.getvalue().startswith("still waiting for orders-2 to register, since 10 s\n")


def test_a_picture_that_cannot_be_written_in_the_end_is_named() -> None:
    """The option, the path and the reason, not the number of an error."""
    with pytest.raises(DemoError, match=r"^--picture /dev/full: it cannot be written: No space left on device$"):
        module._draw(Path("/dev/full"), Picture(sample(), LENGTH))


def test_no_call_fails_and_nothing_is_left(home: Path) -> None:
    """A whole run, shortened: status 0, each act told, every call answered, a picture of it, and nothing else."""
    with start(home, "-m", "svcmesh", "demo", "--seconds", "8", "--picture", "run.svg") as demo:
        out, err = demo.communicate(timeout=300)

    assert (demo.returncode, err) == (0, ""), out
    assert all(f"-- {act.title}: {act.story}" in out for act in ACTS)
    assert " 0 failed" in out
    assert "calls succeeded" in out.splitlines()[-1]
    assert [path.name for path in home.iterdir()] == ["run.svg"]
    assert leftovers(home) == []
    texts = [element.text for element in ET.parse(home / "run.svg").getroot().iter(f"{{{NAMESPACE}}}text")]
    for word in ("steady", "SIGKILL", "SIGSTOP", "greeter-1", "greeter-4", "orders-3", "gRPC asyncio", "function"):
        assert word in texts


@pytest.mark.parametrize("kind", ["consul", "etcd"])
def test_a_registry_that_is_killed_under_load_costs_no_call(kind: str, home: Path) -> None:
    """It is a process of the demo's own, and ends with it. The Consul is ours: it takes what a real one is told."""
    program = fake_consul(home.parent) if kind == "consul" else etcd_binary()
    if program is None:
        pytest.skip(NO_ETCD)
    with start(home, "-c", REGISTRY_DIES, kind, str(program)) as demo:
        out, err = demo.communicate(timeout=300)

    assert (demo.returncode, err) == (0, ""), out
    assert out.startswith(f"starting {program}, a registry for this demo alone\n")
    assert "-- registry killed: " in out
    assert "calls succeeded" in out.splitlines()[-1]
    assert leftovers(home) == []


def test_a_failed_call_is_an_exit_status(home: Path) -> None:
    """When all servers are killed, calls must fail: status 1, the errors with what svcmesh knows of them, a picture."""
    with start(home, "-c", ALL_KILLED) as demo:
        out, err = demo.communicate(timeout=300)

    assert (demo.returncode, err) == (1, "")
    assert "calls failed, and all of them may be repeated:" in out
    assert "attempts in" in out
    assert (home / "run.svg").exists()
    assert leftovers(home) == []


def test_a_reader_that_leaves_ends_it_quietly(home: Path) -> None:
    """As with ``svcmesh demo | head``: no status that speaks of failed calls, no word, no process, no file."""
    with start(home, "-m", "svcmesh", "demo", "--seconds", "10") as demo:
        assert demo.stdout is not None
        while "calls/s" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.stdout.close()
        assert demo.wait(120) == 128 + signal.SIGPIPE
        assert demo.stderr is not None
        assert demo.stderr.read() == ""

    assert list(home.iterdir()) == []
    assert leftovers(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_end_from_outside_leaves_nothing(number: signal.Signals, home: Path) -> None:
    """Told to end, or killed, while a server is frozen: no process, no file, no picture, and not a long wait."""
    with start(home, "-m", "svcmesh", "demo", "--seconds", "10") as demo:
        assert demo.stdout is not None
        while "SIGSTOP" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(number)
        _, err = demo.communicate(timeout=60)

    assert demo.returncode == (-number if number is signal.SIGKILL else 128 + number)
    assert err == ("" if number is signal.SIGKILL else "svcmesh demo: interrupted; all servers have been ended\n")
    assert list(home.iterdir()) == []
    assert leftovers(home) == []


def test_ctrl_c_on_a_terminal_gives_it_back(home: Path) -> None:
    """The table is drawn in place with the cursor hidden; after Ctrl-C it is shown again, behind the last drawing."""
    terminal, ours = pty.openpty()
    program = [sys.executable, "-W", "error", "-m", "svcmesh", "demo", "--seconds", "20"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(home.parent / "tmp"), "TERM": "xterm"}
    with subprocess.Popen(
        ["setsid", "--ctty", *program], cwd=home, env=environment, stdin=ours, stdout=ours, stderr=ours
    ) as demo:
        os.close(ours)
        try:
            drawn = read_until(terminal, b"faults injected")
            os.write(terminal, b"\x03")
            drawn += read_until(terminal, b"")
        finally:
            os.close(terminal)
        assert demo.wait(120) == 128 + signal.SIGINT

    assert drawn.rindex(b"\x1b[?25h") > drawn.rindex(b"\x1b[?25l") > drawn.index(b"starting greeter-1")
    assert drawn.endswith(b"svcmesh demo: interrupted; all servers have been ended\r\n")
    assert b"Traceback" not in drawn
    assert list(home.iterdir()) == []
    assert leftovers(home) == []


def read_until(terminal: int, word: bytes) -> bytes:
    """Return what a terminal is sent, up to ``word``; without one until nobody has it open."""
    found = b""
    while not word or word not in found:
        try:
            found += os.read(terminal, 65536)
        except OSError:  # EIO: all who had it open are gone
            assert not word, found
            return found
    return found
