"""Messages of protobuf by numbers alone: a second reading of Envoy's API, so that ours is not judged by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def encode(fields: Mapping[int, Any]) -> bytes:
    """Return a message; its values are whole numbers, text, bytes, messages (mappings), or lists of these."""
    return b"".join(
        _field(number, one)
        for number, value in fields.items()
        for one in (value if isinstance(value, list) else [value])
    )


def packed(kind: str, fields: Mapping[int, Any] | bytes) -> dict[int, Any]:
    """Return a google.protobuf.Any that holds a message of the type that ends in ``kind``."""
    content = fields if isinstance(fields, bytes) else encode(fields)
    return {1: f"type.googleapis.com/{kind}", 2: content}


def decode(content: bytes) -> dict[int, list[Any]]:
    """Return the values of a message by number: whole numbers, and bytes for everything else."""
    found: dict[int, list[Any]] = {}
    place = 0
    while place < len(content):
        tag, place = _number_at(content, place)
        if tag & 7 == 0:
            value, place = _number_at(content, place)
        elif tag & 7 == 2:
            size, place = _number_at(content, place)
            value, place = content[place : place + size], place + size
        else:
            size = {1: 8, 5: 4}[tag & 7]
            value, place = content[place : place + size], place + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(message: Mapping[int, list[Any]], number: int) -> str:
    """Return the last text under a number; "" if there is none."""
    return message.get(number, [b""])[-1].decode()


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = encode(value) if isinstance(value, Mapping) else value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number_at(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
