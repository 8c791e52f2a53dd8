"""The command as people call it: by its script's function and by ``python -m svcmesh``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from svcmesh.cli.main import main, parser

SOURCE = Path(__file__).parents[2] / "src"


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run an interpreter on ``-m svcmesh``, or on ``code``, with warnings as errors."""
    program = ["-c", code] if code else ["-m", "svcmesh"]
    return subprocess.run(
        [sys.executable, "-W", "error", *program, *arguments],
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_explains_the_commands() -> None:
    """`python -m svcmesh --help` succeeds and names every command with what it does."""
    done = run("--help")

    assert done.returncode == 0, done.stderr
    assert "usage: svcmesh" in done.stdout
    assert all(f"  {command} " in done.stdout for command in ("demo", "resolve", "watch"))
    assert "killed" in done.stdout


def test_help_loads_no_library_of_a_command() -> None:
    """Explaining the command takes neither gRPC nor httpx nor rich."""
    done = run(
        code="import sys\nfrom svcmesh.cli.main import parser\nparser().format_help()\n"
        "print(sorted({'grpc', 'httpx', 'rich', 'dns.resolver'} & set(sys.modules)))"
    )

    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--loud"]], ids=["none", "unknown", "bad option"])
def test_a_bad_command_line_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A missing or unknown command and an unknown option end with status 2 and a word about usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: svcmesh" in capsys.readouterr().err


def test_every_option_has_a_default() -> None:
    """`svcmesh demo` needs no option."""
    options = parser().parse_args(["demo"])

    assert options.seconds == 35
    assert options.picture == Path("svcmesh-demo.svg")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`svcmesh --version` prints its name and something, and succeeds."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("svcmesh ")


def test_a_reader_that_leaves_is_no_crash() -> None:
    """Output into a closed pipe ends the command without a traceback, and with a status that no command uses."""
    done = run(
        code="import os, sys\nfrom svcmesh.cli import main as program\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1); os.close(writer)\n"
        "from svcmesh.cli.demo import command\n"
        "command.run = lambda options: print('much') or 0\n"
        "sys.exit(program.main(['demo']))"
    )

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_an_early_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before a command has begun ends with the status that shells use for it."""

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("svcmesh.cli.demo.command.run", interrupted)

    assert main(["demo"]) == 130


def test_an_error_of_ours_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody caught is told with its traceback, and with a status that says nothing of calls."""

    def broken(_: object) -> int:
        raise LookupError("a defect")

    monkeypatch.setattr("svcmesh.cli.demo.command.run", broken)

    assert main(["demo"]) == os.EX_SOFTWARE
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "LookupError: a defect" in said


CLOSED = """
import os, sys
from svcmesh.cli.demo import command
from svcmesh.cli.main import main

def run(options):
    print("shown", flush=True)
    print("said", file=sys.stderr, flush=True)
    with open(options.picture, "w") as file:
        return 0 if file.fileno() > 2 and not sys.stdout.isatty() else 3

command.run = run
sys.exit(main(["demo", "--picture", sys.argv[1]]))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(closed: str, tmp_path: Path) -> None:
    """A command prints as ever where standard streams are closed, and its files are not taken for them."""
    program = f'exec "$0" -W error -c "$1" "$2" {closed}'
    picture = tmp_path / "run.svg"
    done = subprocess.run(
        ["/bin/sh", "-c", program, sys.executable, CLOSED, str(picture)],
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if ">" in closed.replace("2>", "") else "shown\n")
    assert done.stderr == ("" if "2" in closed else "said\n")
    assert picture.read_bytes() == b""
