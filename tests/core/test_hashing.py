"""Hashes equal those of other systems, whose values are written down here."""

from __future__ import annotations

import pytest

from svcmesh.balance import hash_key
from svcmesh.core.hashing import murmur2, xxh64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 17241709254077376921),  # the xxHash specification's own
        ("10.0.0.1:8080_0", 2567785056460330147),
        ("10.0.0.1:8080_1", 16621891374891883164),
    ],
)
def test_xxh64(text, expected):
    assert hash_key(text) == xxh64(text) == xxh64(text.encode()) == expected


def test_seeds_differ():
    """Maglev takes two hashes of one key."""
    assert xxh64("10.0.0.1:8080") % 65537 == 1495
    assert xxh64("10.0.0.1:8080", 1) % 65536 + 1 == 46121


def test_text_is_utf_8():
    assert hash_key("Grüße") == hash_key(b"Gr\xc3\xbc\xc3\x9fe")


def test_text_that_utf_8_has_no_bytes_for_is_hashed_all_the_same():
    assert hash_key("\ud800") == hash_key(b"\xed\xa0\x80")
    assert murmur2("a\udfff") != murmur2("b\udfff")


def test_murmur2_of_one_word_and_a_rest():
    assert murmur2("10.0.0.1:8080_0") == 2887472326060304709


@pytest.mark.parametrize("key", [7, None, 1.5, ["a"]])
def test_only_text_and_bytes_are_hashed(key):
    """An int would be mistaken for a hash."""
    with pytest.raises(TypeError, match="only text and bytes are hashed"):
        hash_key(key)
