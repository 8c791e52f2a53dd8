"""`svcmesh watch`: every change is a line, as it comes, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from svcmesh.cli.endpoints.watch import changes_to, in_json, in_words
from svcmesh.cli.main import main
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot

SOURCE = Path(__file__).parents[3] / "src"


@contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; it is interrupted on the way out, and has to end as programs do then."""
    command = [sys.executable, "-W", "error", "-m", "svcmesh", "watch", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else it may be ignored here, and so there
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_changes_are_lines_as_they_come(tmp_path: Path) -> None:
    file = tmp_path / "mesh.json"
    file.write_text('["10.0.0.1:80"]')
    with watching("--json", f"file://{file}") as process:
        assert process.stdout is not None

        def happened() -> tuple[str, str]:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            return told["event"], told.get("endpoint", {}).get("address") or told.get("error", "")

        assert happened() == ("added", "10.0.0.1:80")
        file.write_text('[{"address": "10.0.0.1:80", "weight": 2}, "10.0.0.2:80"]')
        assert {happened(), happened()} == {("added", "10.0.0.2:80"), ("changed", "10.0.0.1:80")}
        file.write_text("[")
        event, error = happened()
        assert event == "warning"
        assert "mesh.json, line 1" in error
        assert happened()[0] == "failed"
        file.write_text('["10.0.0.2:80"]')
        while (seen := happened())[0] == "failed":
            pass
        assert seen == ("recovered", "")
        assert happened() == ("removed", "10.0.0.1:80")


def test_what_the_environment_sends_elsewhere_is_followed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mesh.json").write_text('{"orders": ["10.0.0.1:80"]}')
    monkeypatch.setenv("SVCMESH_OVERRIDES", "orders=127.0.0.1:8080")
    with watching("--json", f"file://{tmp_path}/mesh.json", "orders") as process:
        assert process.stdout is not None
        warning, added = (json.loads(process.stdout.readline()) for _ in range(2))

    assert (warning["event"], "SVCMESH_OVERRIDES sends 'orders'" in warning["error"]) == ("warning", True)
    assert (added["event"], added["endpoint"]["address"]) == ("added", "127.0.0.1:8080")


def test_people_read_them_too(tmp_path: Path) -> None:
    with watching("static://10.0.0.1:80") as process:
        assert process.stdout is not None
        assert process.stdout.readline().partition("  ")[2] == "+ 10.0.0.1:80  weight 1  priority 0  healthy  -  -\n"


def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    """At the next change: a pipe is noticed when it is written to."""
    file = tmp_path / "mesh.json"
    file.write_text('["10.0.0.1:80"]')
    command = [sys.executable, "-W", "error", "-m", "svcmesh", "watch", f"file://{file}"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        file.write_text('["10.0.0.2:80"]')
        try:
            assert process.wait(20) == 128 + signal.SIGPIPE
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_wrong_command_line_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "local:///nowhere"]) == 2
    assert "svcmesh watch: 'local:///nowhere' names a registry" in capsys.readouterr().err


A, B, HEAVY = Endpoint("a:1"), Endpoint("b:1"), Endpoint("a:1", weight=2)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, (A,), [("added", A)]),
        ((A,), (HEAVY,), [("changed", HEAVY)]),
        ((A,), (B,), [("removed", A), ("added", B)]),
        ((A,), (A,), []),
        (None, (), [("empty", "no endpoints")]),
        ((A,), (), [("removed", A), ("empty", "no endpoints")]),
    ],
)
def test_a_snapshot_is_shown_by_what_is_another(
    before: tuple[Endpoint, ...] | None, now: tuple[Endpoint, ...], expected: list[object]
) -> None:
    assert list(changes_to(Snapshot(now), before)) == expected


@pytest.mark.parametrize(
    ("kind", "what", "words", "fields"),
    [
        ("failed", "down\x1b[2J", r"! failed down\x1b[2J", {"event": "failed", "error": "down\x1b[2J"}),
        ("recovered", "", "= recovered", {"event": "recovered"}),
        ("warning", "odd", "! odd", {"event": "warning", "error": "odd"}),
        ("empty", "no endpoints", "0 no endpoints", {"event": "empty"}),
    ],
)
def test_what_happens_is_a_line(kind: str, what: str, words: str, fields: dict[str, str]) -> None:
    assert in_words("now", kind, what) == f"now  {words}"
    assert json.loads(in_json("now", kind, what)) == {"time": "now", **fields}
