"""Keys are made as Envoy makes them: the same hash of the same request, whatever language it is sent from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.balance import Computed, Cookie, Header, Query, Source, hash_key
from svcmesh.balance.hash_on import key_of, rules

TOP = (1 << 64) - 1


class Request:
    """What rules read."""

    def __init__(self, *headers: tuple[str, bytes], query: dict[str, bytes] | None = None, shown: Any = None) -> None:
        self._headers = headers
        self._query = query or {}
        self._shown = shown

    def headers(self, name: str) -> list[bytes]:
        return [value for key, value in self._headers if key == name]

    def query(self, name: str) -> bytes | None:
        return self._query.get(name)

    def computed(self, fn: Callable[..., Any]) -> Any:
        return fn(self._shown)


def test_one_header_is_hashed_as_it_is_whatever_its_case() -> None:
    assert key_of([Header("X-User")], Request(("x-user", b"7"))) == hash_key("7")
    assert key_of([Header("x-user")], Request(("x-user", b""))) == hash_key("")
    assert key_of([Header("x-user")], Request(("x-other", b"7"))) is None


def test_several_values_of_a_header_count_in_no_order() -> None:
    """Envoy sorts them, and the hash of one is the seed of the next."""
    one = key_of([Header("x-user")], Request(("x-user", b"foo"), ("x-user", b"bar")))
    other = key_of([Header("x-user")], Request(("x-user", b"bar"), ("x-user", b"foo")))

    assert one == other == xxhash.xxh64_intdigest(b"foo", xxhash.xxh64_intdigest(b"bar"))


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"a=1; user=7; b=2", b"7"),
        (b'user="7"', b"7"),
        (b"user=7=8", b"7=8"),
        (b"user=7; user=8", b"7"),
        (b"user; user=7", b"7"),
        (b"user=7 ; b=2", b"7 "),
        (b" user=7\t", b"7"),
        (b"user =7", None),
        (b"a=1;\tuser=7", None),
        (b"user=", None),
        (b"users=7", None),
        (b"user", None),
    ],
)
def test_a_cookie_is_found_among_others(sent: bytes, found: bytes | None) -> None:
    """As Envoy takes them apart: what is no cookie is passed over, and only blanks before a name are no part of one."""
    assert key_of([Cookie("user")], Request(("cookie", sent))) == (None if found is None else hash_key(found))


def test_a_parameter_of_the_url() -> None:
    assert key_of([Query("user")], Request(query={"user": b"a%20b"})) == hash_key("a%20b")
    assert key_of([Query("user")], Request(query={"User": b"7"})) is None


def test_the_source_is_the_same_for_all_requests() -> None:
    assert key_of([Source("10.0.0.1")], Request()) == hash_key("10.0.0.1")
    assert key_of([Source()], Request()) == key_of([Source()], Request(("x-user", b"7"))) is not None


@pytest.mark.parametrize(
    ("said", "key"), [("7", hash_key("7")), (b"7", hash_key("7")), (7, 7), (-1, TOP), (2**64 + 5, 5), (None, None)]
)
def test_a_function_says_text_or_the_hash_itself(said: Any, key: int | None) -> None:
    assert key_of(rules(lambda shown: shown), Request(shown=said)) == key


@pytest.mark.parametrize("said", [True, 1.5, ["7"]])
def test_what_a_function_says_else_is_refused(said: Any) -> None:
    with pytest.raises(TypeError, match="hash_on: a function must return"):
        key_of(rules(lambda shown: shown), Request(shown=said))


def says(*keys: int | None) -> list[Computed]:
    return [Computed(lambda _, key=key: key) for key in keys]


def test_several_are_mixed_each_rotated_by_a_bit_before_the_next() -> None:
    assert key_of(says(0x8000_0000_0000_0001, 0), Request()) == 3
    assert key_of(says(1, 1), Request()) == 3, "equal values must not cancel each other out"
    assert key_of(says(None, 5, None, 1), Request()) == 11
    assert key_of(says(None, None), Request()) is None


def test_a_terminal_rule_ends_it_once_there_is_a_hash() -> None:
    """Also where the hash is of a rule before it; and not as long as there is none."""
    request = Request(("b", b"2"), ("c", b"3"))
    both = key_of([Header("b"), Header("c")], request)

    assert key_of([Header("b", terminal=True), Header("c")], request) == hash_key("2")
    assert key_of([Header("a", terminal=True), Header("b"), Header("c")], request) == both
    assert key_of([Header("b"), Header("a", terminal=True), Header("c")], request) == hash_key("2")


@given(st.lists(st.none() | st.integers(0, TOP), max_size=6))
def test_the_key_is_what_envoys_loop_makes(found: list[int | None]) -> None:
    expected: int | None = None
    for new in found:
        if new is not None:
            old = 0 if expected is None else (expected << 1 | expected >> 63) & TOP
            expected = old ^ new
    assert key_of(says(*found), Request()) == expected


def test_one_rule_or_several_or_a_function() -> None:
    header = Header("x-user")
    assert rules(None) == ()
    assert rules(header) == (header,)
    assert rules([header, len]) == (header, Computed(len))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Header(""), "name of a Header"),
        (lambda: Cookie(7), "name of a Cookie"),  # type: ignore[arg-type]
        (lambda: Query(None), "name of a Query"),  # type: ignore[arg-type]
        (lambda: Source(""), "address of a Source"),
        (lambda: Computed("x"), "fn must be a function"),  # type: ignore[arg-type]
        (lambda: Header("x", terminal="no"), "terminal must be True or False"),  # type: ignore[arg-type]
        (lambda: rules("x-user"), "hash_on must hold rules"),
        (lambda: rules([Header]), "hash_on must hold rules"),
        (lambda: rules(7), "hash_on must hold rules"),
    ],
)
def test_what_no_rule_can_be_is_refused_when_it_is_made(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
