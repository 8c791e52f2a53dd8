"""What the .proto says of a method, and what is passed on to stock channels."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import grpc
import pytest

from svcmesh.transport.grpc.method import KINDS, CarryingMethod, Method, option_says_idempotent
from svcmesh.transport.grpc.request import Request
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


def test_a_channel_of_grpcs_own_gets_requests_and_one_with_interceptors_messages() -> None:
    """Whoever looks at messages on their way sees messages; else each is serialized once for all attempts."""

    class Spy(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # untyped
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(request)
            return continuation(client_call_details, request)

    def serializer(message: Any) -> bytes:
        serialized.append(message)
        return b"bytes"

    seen: list[Any] = []
    serialized: list[Any] = []
    method = CarryingMethod("unary_unary", "/a.B/C", serializer, None, registered=False)
    with grpc.insecure_channel("ipv4:127.0.0.1:1") as bare:
        for channel in (bare, grpc.intercept_channel(bare, Spy())):
            request = Request("message")
            for _ in range(2):
                assert method.bind(channel).future(request).code() is grpc.StatusCode.UNAVAILABLE

    assert seen == ["message"] * 2
    assert serialized == ["message"] * 3


def test_a_path_may_be_bytes() -> None:
    """As gRPC allows."""
    assert Method("unary_unary", b"/a.B/C", None, None, None).name == "/a.B/C"
