"""Options of `svcmesh demo`, and what its exit status says. The demo itself is played in test_play."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from svcmesh.cli.demo.command import SECONDS
from svcmesh.cli.demo.interruption import Interrupted
from svcmesh.cli.demo.play import Settings
from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.main import main

SOURCE = Path(__file__).parents[3] / "src"
PLAY = "svcmesh.cli.demo.play.play"


@pytest.mark.parametrize("seconds", ["4.9", "601", "nan", "-1", "soon", ""])
def test_bad_seconds_are_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Too short, too long and no number at all: status 2, and the range."""
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"--seconds={seconds}"])

    assert ended.value.code == 2
    assert "must be a number from 5 to 600" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory, and a file in a directory that is not there: status 2 before anything is started."""
    monkeypatch.setattr(PLAY, lambda *_: pytest.fail("the demo was played"))

    assert main(["demo", "--picture", str(tmp_path)]) == 2
    assert main(["demo", "--picture", str(tmp_path / "no" / "where.svg")]) == 2
    assert main(["demo", "--picture", str(tmp_path / ("x" * 300))]) == 2
    assert main(["demo", "--picture", "/proc/svcmesh-demo.svg"]) == 2  # whoever is root may write there, and cannot
    said = capsys.readouterr().err
    assert "File name too long" in said
    assert "/proc/svcmesh-demo.svg: it cannot be written" in said
    assert list(tmp_path.iterdir()) == []
    assert "this is a directory" in said
    assert f"there is no directory {tmp_path / 'no'}" in said


def test_options_reach_the_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The acts last as long as was asked for, the picture goes where it was asked to, and the status is the play's."""
    played: list[Settings] = []
    monkeypatch.setattr(PLAY, lambda settings, _: played.append(settings) or 1)

    assert main(["demo", "--seconds", "12", "--picture", str(tmp_path / "run.svg")]) == 1
    assert sum(act.seconds for act in played[0].acts) == pytest.approx(12)
    assert played[0].picture == tmp_path / "run.svg"


def test_a_registry_that_is_started_is_killed_in_an_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs already, as an embedded one, is left in peace; the whole is as long as was asked for."""
    played: list[Settings] = []
    monkeypatch.setattr(PLAY, lambda settings, _: played.append(settings) or 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETCDCTL_ENDPOINTS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as running:
        assert main(["demo", "--registry", "etcd", "--registry-binary", sys.executable]) == 0
        assert main(["demo", "--registry", f"etcd://127.0.0.1:{running.getsockname()[1]}"]) == 0

    ours, theirs = played
    assert (ours.registry.kind, ours.registry.program) == ("etcd", sys.executable)
    assert "registry killed" in [act.title for act in ours.acts]
    assert "registry killed" not in [act.title for act in theirs.acts]
    assert sum(act.seconds for act in ours.acts) == pytest.approx(SECONDS)


def test_a_registry_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and one line that says what would help."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONSUL_HTTP_ADDR", raising=False)
    monkeypatch.chdir(tmp_path)

    assert main(["demo", "--registry", "consul"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("svcmesh demo: there is no Consul here: put consul into PATH")
    assert said.count("\n") == 1


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    """Where there is no grpcio the demo says so, in one line and with status 2."""
    program = "import sys; sys.modules['grpc'] = None; from svcmesh.cli.main import main; sys.exit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (done.returncode, done.stderr) == (2, "svcmesh demo: it needs grpc, which is not installed here\n")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Interrupted(15), 143, "interrupted"),
        (DemoError("orders-1 did not register within 90 s"), 2, "did not register"),
        (OSError(28, "No space left on device"), 2, "No space left"),
    ],
)
def test_what_prevents_the_play_is_said(
    error: BaseException,
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A signal has the status that shells give it, anything else 2; both are one line on standard error."""

    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(PLAY, fail)

    assert main(["demo", "--picture", str(tmp_path / "run.svg")]) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_picture_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty path, as a variable that is not set makes it, is not taken for the current directory."""
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--picture", ""])

    assert ended.value.code == 2
    assert "argument --picture: must name a file, not ''" in capsys.readouterr().err


IMPORTING = """
import os, signal, sys
from svcmesh.cli.main import main

class Finder:  # says that the demo imports, and loses what is raised there, where asked to
    def find_spec(self, name, path=None, target=None):
        if name == "svcmesh.cli.demo.play":
            try:
                os.kill(os.getpid(), int(sys.argv[1]))
            except BaseException:
                if sys.argv[2] == "heard":
                    raise

sys.meta_path.insert(0, Finder())
sys.exit(main(["demo"]))
"""


@pytest.mark.parametrize("fate", ["heard", "lost"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_end_during_the_imports_is_quiet(number: signal.Signals, fate: str, tmp_path: Path) -> None:
    """The imports take seconds on a busy machine: a signal then has the usual status and word, and no traceback.

    Nor is it forgotten where an exception is lost, as in the callbacks of weak references that imports run.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTING, str(int(number)), fate],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 128 + number, done.stderr
    assert (done.stdout, done.stderr) == ("", "svcmesh demo: interrupted; all servers have been ended\n")
