"""Hashes that every process and every language computes alike: what affinity between them rests on.

Python's own ``hash`` is salted in each process. XXH64 is what Envoy and gRPC place endpoints and keys with; 64-bit
MurmurHash2 is what Envoy offers beside it, seeded as in libstdc++'s ``std::hash``, for sets that were hashed so before.

Source: Envoy, ring_hash_lb.cc and murmur_hash.cc; gRFC A42; xxHash specification 0.1.1.
"""

from __future__ import annotations

from xxhash import xxh64_intdigest

_MASK = (1 << 64) - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_STD_HASH_SEED = 0xC70F6907


def hash_key(key: str | bytes) -> int:
    """Return the hash of what a call is about (a user, a document), for pickers with affinity.

    It is XXH64 with seed 0 of the bytes, text as UTF-8: the same in every process, and the same as Envoy's and gRPC's.

    Returns: from 0 to 2**64 - 1.

    Raises:
        TypeError: neither text nor bytes.
    """
    return xxh64(key)


def xxh64(data: str | bytes, seed: int = 0) -> int:
    """Return XXH64 of ``data``."""
    return xxh64_intdigest(_octets(data), seed)


def murmur2(data: str | bytes) -> int:
    """Return the 64-bit MurmurHash2 of ``data`` as libstdc++'s ``std::hash`` seeds it, in plain Python."""
    octets = _octets(data)
    found = _STD_HASH_SEED ^ (len(octets) * _MULTIPLIER & _MASK)
    aligned = len(octets) & ~7
    for start in range(0, aligned, 8):
        word = int.from_bytes(octets[start : start + 8], "little") * _MULTIPLIER & _MASK
        found = (found ^ (word ^ word >> 47) * _MULTIPLIER & _MASK) * _MULTIPLIER & _MASK
    if aligned < len(octets):
        found = (found ^ int.from_bytes(octets[aligned:], "little")) * _MULTIPLIER & _MASK
    found = (found ^ found >> 47) * _MULTIPLIER & _MASK
    return found ^ found >> 47


def _octets(data: str | bytes) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError:  # half of a pair, which JSON can hold; a stranger's metadata is no reason to fail
            return data.encode(errors="surrogatepass")
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"only text and bytes are hashed, not {data!r}")
