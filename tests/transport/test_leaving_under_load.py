"""Servers are stopped by SIGTERM one after the other while a client calls: nobody notices, and nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run one of `tests.servers`; it is gone at the end."""
    command = [sys.executable, "-W", "error", "-m", f"tests.servers.{module}", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def ended(running: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Wait for its end; return the last line it said, and what it had to complain about."""
    out, complaints = running.communicate(timeout=60)
    return json.loads(out.splitlines()[-1]), complaints


PAIRS = [("grpc", "grpc"), ("grpc-aio", "grpc-aio"), ("http", "http"), ("http", "http-aio")]


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_no_call_fails_while_servers_are_stopped(server: str, client: str, tmp_path: Path) -> None:
    """Two of three leave under a load of calls that may not be repeated; each call is executed exactly once."""
    registry = f"local://{tmp_path}/registry"
    with (
        process("leaving", server, registry) as one,
        process("leaving", server, registry) as two,
        process("leaving", server, registry) as three,
        process("calling", client, registry) as caller,
    ):
        for each in (one, two, three):
            assert each.stdout is not None
            assert each.stdout.readline()  # it has been called
        executed = 0
        one.send_signal(signal.SIGTERM)
        time.sleep(0.6)  # the second begins while the first still waits for callers to hear of it
        two.send_signal(signal.SIGTERM)
        for leaving in (one, two):
            last, complaints = ended(leaving)
            assert complaints == ""
            assert last["executed"] > 0
            executed += last["executed"]
        told, complaints = ended(caller)
        assert complaints == ""
        assert told["failed"] == []
        three.send_signal(signal.SIGTERM)
        executed += ended(three)[0]["executed"]
    assert told["answered"] == executed
    assert executed > 50
