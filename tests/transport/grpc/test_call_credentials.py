"""Call credentials whose metadata a plugin finds: every kind of call goes, or ends, as on the stock channel.

All calls are made by one process, `credentials_calls`, which says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.servers.grpc_process import ROOT
from tests.transport.grpc.credentials_calls import ANSWERS, COLOURS, KINDS
from tests.transport.pki import Pki

LONGEST = 300
"""Seconds that only a hang takes, of a machine that does much else."""


@pytest.fixture(scope="module")
def went(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return how each of the calls went."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    with pki.grpc_server(pki.pair("probe")) as server:
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.transport.grpc.credentials_calls"]
        done = subprocess.run(
            [*command, server.address, str(pki.ca)],
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            capture_output=True,
            timeout=LONGEST,
        )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer != "hangs"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_calls_own_plugin(went: dict[str, Any], colour: str, kind: str, answer: str) -> None:
    """It is asked for the same, once, and the call goes or ends as a stock call does."""
    mesh = went[f"mesh {colour} {kind} {answer}"]
    assert mesh == went[f"stock {colour} {kind} {answer}"]
    end, asked, token = mesh
    assert len(asked) == 1
    if answer.startswith("gives"):
        assert token == "token 1"
    else:
        assert (token, end["code"]) == ("none", "UNAVAILABLE")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("whose", ["stock", "mesh"])
def test_a_plugin_that_hangs_ends_with_the_deadline(went: dict[str, Any], whose: str, colour: str, kind: str) -> None:
    """What it says after that is nobody's any more."""
    end, _, token = went[f"{whose} {colour} {kind} hangs"]
    assert (token, end["code"]) == ("none", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_the_plugins_of_the_channel_and_of_the_call_are_all_asked(went: dict[str, Any], colour: str, kind: str) -> None:
    """Composite credentials, of the channel and of the call."""
    mesh = went[f"mesh {colour} {kind} composite"]
    assert mesh == went[f"stock {colour} {kind} composite"]
    assert mesh[1] == ["c", "token 1", "o"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_each_attempt_asks_again(went: dict[str, Any], colour: str, kind: str) -> None:
    """A token may have been refused because it was too old."""
    end, times, token = went[f"mesh {colour} {kind} repeated"]
    assert "code" not in end
    assert (times, token) == (3, "token 3")
