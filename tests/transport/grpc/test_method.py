"""What the .proto says of a method, and what is passed on to stock channels."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from svcmesh.transport.grpc.method import KINDS, Method, option_says_idempotent
from tests.servers import svcmesh_test_pb2 as pb


@pytest.mark.parametrize(("method", "idempotent"), [("Read", True), ("Put", True), ("Unary", False), ("Gone", False)])
def test_the_option_of_the_proto_is_read(method: str, idempotent: bool) -> None:
    """NO_SIDE_EFFECTS and IDEMPOTENT count, silence does not, nor does a method that is not there."""
    assert option_says_idempotent(f"/svcmesh.test.Probe/{method}", pb.Ping.SerializeToString) is idempotent


@pytest.mark.parametrize("path", ["/unknown.Service/Method", "nonsense", "", "/", "//"])
@pytest.mark.parametrize("serializer", [None, bytes, lambda message: message])
def test_without_a_descriptor_nothing_is_idempotent(path: str, serializer: Any) -> None:
    """The generic API has none, and any text may be a path."""
    assert option_says_idempotent(path, serializer) is False


def test_programs_without_protobuf_need_none() -> None:
    """Looking for a descriptor does not load the library."""
    script = (
        "import sys\n"
        "from svcmesh.transport.grpc.method import option_says_idempotent\n"
        "print(option_says_idempotent('/a.B/C', None), 'google.protobuf' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("kind", KINDS)
def test_binding_passes_on_what_the_stub_asked_for(kind: Any) -> None:
    """Except that streamed requests arrive as bytes, being serialized by us."""
    asked: list[Any] = []

    class Channel:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: asked.append((name, args, kwargs))

    Method(kind, "/a.B/C", str, bytes, True).bind(Channel())

    serializer = None if kind.startswith("stream") else str
    assert asked == [(kind, ("/a.B/C", serializer, bytes), {"_registered_method": True})]


def test_a_path_may_be_bytes() -> None:
    """As gRPC allows."""
    assert Method("unary_unary", b"/a.B/C", None, None, None).name == "/a.B/C"
