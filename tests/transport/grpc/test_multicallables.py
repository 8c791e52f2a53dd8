"""Callables of a channel are made once for what a stub asks for, whatever that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import pytest

import svcmesh
from svcmesh.transport.grpc.multicallables import MOST_MULTICALLABLES, Multicallables


@dataclass
class Serializer:
    """Compares by value, and so has no hash."""

    prefix: bytes

    def __call__(self, message: bytes) -> bytes:
        return self.prefix + message


def make(key: tuple[Any, ...]) -> list[Any]:
    return list(key)


def test_each_is_made_once() -> None:
    """Interceptors ask for it on every call."""
    kept = Multicallables()

    assert kept.get(("unary_unary", "/a/b", str), make) is kept.get(("unary_unary", "/a/b", str), make)
    assert kept.get(("unary_unary", "/a/c", str), make) == ["unary_unary", "/a/c", str]


def test_a_serializer_without_a_hash_is_known_by_its_identity() -> None:
    """Two that are equal now may not be so later."""
    kept, one, other = Multicallables(), Serializer(b"1"), Serializer(b"1")
    found = kept.get(("/a/b", one), make)

    assert found[1] is one
    assert kept.get(("/a/b", one), make) is found
    assert kept.get(("/a/b", other), make)[1] is other


def test_there_is_an_end_to_what_is_kept() -> None:
    """Fresh lambdas on every call must not fill the memory."""
    kept = Multicallables()
    for number in range(MOST_MULTICALLABLES + 1):
        kept.get((number,), make)

    assert len(kept._kept) == 1


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_channels_take_serializers_without_a_hash(kind: str) -> None:
    """As stock channels do; the stock channels below are asked by the method, not by them."""
    with svcmesh.Mesh({"probe": ["127.0.0.1:1"]}) as mesh:
        service = mesh.service("probe")
        with service.grpc_channel() as channel:
            getattr(channel, kind)("/a.B/C", Serializer(b"1"), Serializer(b"2"))
        getattr(service.grpc_aio_channel(), kind)("/a.B/C", Serializer(b"1"), Serializer(b"2"))


def test_a_call_with_such_a_serializer_is_made() -> None:
    """It fails only for want of a server."""
    with (
        svcmesh.Mesh({"probe": ["127.0.0.1:1"]}) as mesh,
        mesh.service("probe").grpc_channel() as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/a.B/C", Serializer(b"1"), Serializer(b"2"))(b"")

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]  # it is a Call, too
