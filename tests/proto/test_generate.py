"""What is committed of generated code is what the .proto files say, and it loads with any version we allow."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = sorted((ROOT / "src" / "svcmesh" / "_proto").glob("greet_pb2*"))


def test_committed_code_is_fresh() -> None:
    """Running the generator again changes nothing."""
    pytest.importorskip("grpc_tools", reason="the generator needs grpcio-tools, a development tool")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    assert generate.stale() == []


def test_generated_code_asks_for_no_version() -> None:
    """The compiler's own version is nothing that a user of the package has to match."""
    assert len(GENERATED) == 3
    for path in GENERATED:
        text = path.read_text(encoding="utf-8")
        assert "runtime_version" not in text
        assert "GENERATED_VERSION" not in text


def test_generated_code_loads_in_a_fresh_interpreter() -> None:
    """It imports without a warning, and knows the method of the tutorial."""
    script = (
        "from svcmesh._proto import greet_pb2, greet_pb2_grpc\n"
        "method = greet_pb2.DESCRIPTOR.services_by_name['Greeter'].methods[0]\n"
        "print(method.name, greet_pb2.HelloRequest(name='Ann').name, greet_pb2_grpc.GreeterStub.__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)

    assert ran.stderr == ""
    assert ran.stdout.split() == ["SayHello", "Ann", "GreeterStub"]
