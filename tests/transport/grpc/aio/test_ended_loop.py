"""A loop that is closed with calls open, which nobody cancels: they are counted no longer than until anybody looks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.servers.grpc_process import ROOT, GrpcServer


def looked(address: str, *arguments: str) -> list[dict[str, Any]]:
    """Return what the process prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.servers.ended_loop", address, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def looks(grpc_servers: tuple[GrpcServer, GrpcServer]) -> list[dict[str, Any]]:
    """Every kind of call, kept by its caller or dropped; the channel is used on or closed."""
    return looked(grpc_servers[0].address)


def test_whoever_comes_next_settles_what_a_loop_has_left(looks: list[dict[str, Any]]) -> None:
    """The first call on another loop, or `close`: nothing is in flight any more, and nothing was repeated for it."""
    assert len(looks) == 40
    for look in looks:
        assert look["in_flight"] == [1, 0], look
        assert look["attempts"] == (0 if look["case"].endswith("close") else 1), look


def test_whoever_asks_for_the_state_settles_it_too(looks: list[dict[str, Any]]) -> None:
    """There need not be another loop."""
    told = [look["told"] for look in looks if look["case"].endswith("kept, then call")]
    assert told == [0] * 10


def test_closing_raises_nothing_for_it(looks: list[dict[str, Any]]) -> None:
    """Nothing is asked of a loop that is closed, and no call is kept for callbacks that nobody will call."""
    for look in looks:
        assert (look["error"], look["pins"]) == (None, 0), look


def test_a_call_that_was_kept_says_that_it_is_over(looks: list[dict[str, Any]]) -> None:
    """Nobody waits for it for ever."""
    assert {look["done"] for look in looks} == {True, None}


def test_interceptors_settle_it_when_another_loop_calls(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """The policy alone, on stock channels: one set of interceptors, a channel for each loop."""
    below = looked(grpc_servers[0].address, "below")
    assert len(below) == 16
    for look in below:
        assert (look["in_flight"][1], look["attempts"]) == (0, 1), look
        if look["case"].endswith("kept"):  # gRPC cancels intercepted streams that are dropped
            assert look["in_flight"][0] == 1, look
