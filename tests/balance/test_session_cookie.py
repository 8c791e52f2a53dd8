"""The cookie of a session: Envoy's message, to the byte, and nothing that only looks like one."""

from __future__ import annotations

from base64 import b64decode

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.balance.session_cookie import read, written

TEXT = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=300)


@pytest.fixture(scope="module")
def message():
    """Envoy's cookie.proto: ``string address = 1; uint64 expires = 2``."""
    file = FileDescriptorProto(name="cookie.proto", syntax="proto3")
    cookie = file.message_type.add(name="Cookie")
    for number, (name, kind) in enumerate([("address", Field.TYPE_STRING), ("expires", Field.TYPE_UINT64)], 1):
        cookie.field.add(name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("Cookie"))


@given(TEXT.filter(bool), st.integers(0, 2**64 - 1))
def test_it_is_the_message_that_protobuf_makes(message, address, expires):
    """Short and long addresses; the end is read over."""
    assert b64decode(written(address)) == message(address=address).SerializeToString()
    assert read(message(address=address, expires=expires).SerializeToString()) == address


@pytest.mark.parametrize("value", ["10.0.0.1:80", "10.0.0.1:80;orders", "10.0.0.1:80,[::1]:80;orders", "10.0.0.1:80;"])
def test_grpcs_names_the_address_first(value):
    """The addresses of one endpoint, and the cluster that it was found in."""
    assert read(value.encode()) == "10.0.0.1:80"


@pytest.mark.parametrize(
    "value",
    [
        b"\n",
        b"\n\x0b10.0.0.1:8",
        b"\n\x0b10.0.0.1:800",
        b"\n\x0b10.0.0.1:80\x10",
        b"\n\x0b10.0.0.1:80\x10\x80",
        b"\n\x0b10.0.0.1:80\x18\x01",
        b"\n\x0b10.0.0.1:80\x10\x01\x10\x01",
        b"\n\x80\x80\x0110.0.0.1:80",
    ],
)
def test_another_message_names_nobody(value):
    """Cut, too long, with another field, with one twice."""
    assert read(value) == ""


@given(st.binary())
def test_whatever_comes_is_read_or_no_text(value):
    """Nothing else is raised, for a cookie may hold anything."""
    try:
        assert isinstance(read(value), str)
    except UnicodeDecodeError:
        assert not value.isascii()
