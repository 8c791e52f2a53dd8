"""What an import loads: a program that uses svcmesh for HTTP pays for no gRPC, and the other way round."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HEAVY = {"grpc", "httpx", "httpcore", "h2", "dns.resolver", "google.protobuf", "rich", "matplotlib"}
LIGHT_ROOMS = ("core", "balance", "policy", "discovery", "observe", "engine")
"""Rooms that any use of the library may load; transports load their library, and say so by being asked for."""

LATE = {"svcmesh.discovery.handshake"}
"""Modules that are imported where their library is used for the first time, so that they need not be careful."""


def loaded_by(*modules: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter holds after importing ``modules``."""
    program = (
        f"import json, sys\n{''.join(f'import {name}{chr(10)}' for name in modules)}print(json.dumps([*sys.modules]))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, check=False, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def modules_of(room: str) -> list[str]:
    """Return the dotted names of all modules of a room."""
    files = sorted((SOURCE / "svcmesh" / room).rglob("*.py"))
    names = [".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if name not in LATE]


def test_importing_svcmesh_loads_no_heavy_library() -> None:
    """`import svcmesh` loads none of grpc, httpx and dns.resolver, nor anything else that is slow to load."""
    assert loaded_by("svcmesh") & HEAVY == set()


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_no_room_below_the_transports_loads_a_heavy_library(room: str) -> None:
    """All modules of a room together load no library that only a transport, a backend in use or the command needs."""
    assert loaded_by(*modules_of(room)) & HEAVY == set()


def test_the_look_sees_what_is_loaded() -> None:
    """The helper reports a heavy library where one is loaded."""
    assert "httpx" in loaded_by("httpx") & HEAVY
