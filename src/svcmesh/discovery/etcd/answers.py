"""etcd's answers as its JSON gateway writes them: pure decoding, of ranges, watches, leases and tokens.

Numbers of 64 bits are strings, keys and values are in base64, and what is zero, false or empty is left out. What does
not look like that is an error: never "no instances".
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known, read_elements
from svcmesh.discovery.etcd.errors import error_told, told_by

_LARGEST = 2**64 - 1
_TOLD = 80  # characters of a stranger's text in an error message


class Header(NamedTuple):
    """Which cluster answered, and at which revision of its store."""

    cluster: int
    revision: int


class Item(NamedTuple):
    """The value of a key, the revision that last changed it, and the lease that it lives by (0: none)."""

    revision: int
    value: bytes
    lease: int = 0


class Listing(NamedTuple):
    """All keys of a range."""

    header: Header
    items: dict[bytes, Item]


class Mark(NamedTuple):
    """What tells one state of a range from another: how many keys, and the newest of them without its value."""

    header: Header
    keys: int
    newest: tuple[bytes, Item] | None


class Change(NamedTuple):
    """A key that was put, or deleted (it has no item), and the revision that did it."""

    key: bytes
    revision: int
    item: Item | None


class Notice(NamedTuple):
    """One message of a watch.

    Attributes:
        created: it is the first one. ended: why it is the last one, or None.
        compacted: it ended because its revision is not kept any more.
        changes: in the order in which they happened.
    """

    header: Header
    created: bool
    ended: str | None
    compacted: bool
    changes: tuple[Change, ...]

    @property
    def is_progress(self) -> bool:
        """Whether it says that everything up to the revision of its header has been told."""
        return not (self.created or self.changes or self.ended is not None)


class Holding(NamedTuple):
    """A lease: its number, and the seconds that it lives on (0: it is gone)."""

    lease: int
    ttl: int


def decode_range(body: bytes, known: Known | None = None) -> Listing:
    """Return the keys in an answer of `/v3/kv/range`.

    Args:
        body: the answer. known: the keys of the one before, to be used again where they are the same.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _object(body, partial(read_elements, each=_pair, path=("kvs",), known=known))
    return Listing(_header(answer), dict(_list(answer, "kvs")))


def decode_mark(body: bytes) -> Mark:
    """Return what an answer of `/v3/kv/range` says that was sorted by revision, newest first, and cut to one key.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _object(body)
    kvs = _list(answer, "kvs")
    return Mark(_header(answer), _number(answer, "count"), _pair(kvs[0]) if kvs else None)


def decode_lease_of(body: bytes) -> int | None:
    """Return the lease of the one key that an answer of `/v3/kv/range` holds, 0 without one; None for no key.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _object(body)
    _header(answer)
    kvs = _list(answer, "kvs")
    return _number(kvs[0], "lease") if kvs else None


def decode_watch(line: bytes, *, asked: str) -> Notice:
    """Return what a line of `/v3/watch` says.

    Raises:
        EtcdError: it says that the watch failed. DiscoveryError: it is no such line.
    """
    result = _result(line, asked)
    ended = None
    if result.get("canceled"):
        reason = result.get("cancel_reason")
        ended = reason[: 2 * _TOLD] if isinstance(reason, str) else ""
    changes = tuple(_change(event) for event in _list(result, "events"))
    compacted = _number(result, "compact_revision") > 0
    return Notice(_header(result), bool(result.get("created")), ended, compacted, changes)


def decode_granted(body: bytes) -> Holding:
    """Return the lease in an answer of `/v3/lease/grant`.

    Raises:
        DiscoveryError: it is no such answer.
    """
    return _holding(_object(body))


def decode_kept(body: bytes, *, asked: str) -> Holding:
    """Return the lease in an answer of `/v3/lease/keepalive`, the first line of a stream; TTL 0 means that it is gone.

    Raises:
        EtcdError: it says that this failed. DiscoveryError: it is no such answer.
    """
    return _holding(_result(body.partition(b"\n")[0], asked))


def decode_token(body: bytes) -> str:
    """Return the token in an answer of `/v3/auth/authenticate`.

    Raises:
        DiscoveryError: there is none, or one that no header can hold. It is not repeated.
    """
    token = _object(body).get("token")
    if not isinstance(token, str) or not token or not all("!" <= letter <= "~" for letter in token):
        raise DiscoveryError("etcd's answer to a login holds no token that can be used")
    return token


def _object(body: bytes, parse: Callable[[bytes], Any] = json.loads) -> dict[str, Any]:
    try:
        found = parse(body)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else type(error).__name__
        raise DiscoveryError(f"etcd's answer of {len(body)} bytes is no JSON ({what})") from None
    if not isinstance(found, dict):
        raise DiscoveryError(f"etcd's answer is no object but {shown(found)}")
    return found


def _result(line: bytes, asked: str) -> dict[str, Any]:
    """Return what one line of a stream holds."""
    found = _object(line)
    if "error" in found:
        code, told = told_by(found)
        if code is not None:
            raise error_told(code, told, asked=asked)
    result = found.get("result")
    if not isinstance(result, dict):
        raise DiscoveryError("etcd's answer is no line of a stream: it has neither a result nor an error")
    return result


def _header(answer: dict[str, Any]) -> Header:
    header = answer.get("header")
    if not isinstance(header, dict):
        raise DiscoveryError("etcd's answer has no header: is it etcd that answers?")
    return Header(_number(header, "cluster_id"), _number(header, "revision"))


def _holding(answer: dict[str, Any]) -> Holding:
    _header(answer)
    lease = _number(answer, "ID")
    if not lease:
        raise DiscoveryError("etcd's answer names no lease")
    return Holding(lease, _number(answer, "TTL"))


def _change(event: Any) -> Change:
    kind = event.get("type", "PUT") if isinstance(event, dict) else None
    if kind not in ("PUT", "DELETE"):  # no set: not all that JSON holds has a hash
        raise DiscoveryError(f"etcd's answer holds an event that is neither a PUT nor a DELETE but {shown(kind)}")
    key, item = _pair(event.get("kv"))
    return Change(key, item.revision, item if kind == "PUT" else None)


def _pair(kv: Any) -> tuple[bytes, Item]:
    if not isinstance(kv, dict):
        raise DiscoveryError(f"etcd's answer holds a key that is no object but {shown(kv)}")
    return _bytes(kv, "key"), Item(_number(kv, "mod_revision"), _bytes(kv, "value"), _number(kv, "lease"))


def _list(answer: dict[str, Any], key: str) -> list[Any]:
    found = answer.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise DiscoveryError(f"etcd's answer has {shown(found)} as {key}")
    return found


def _number(holder: Any, key: str) -> int:
    """Return a number, which may be written as a string; 0 where it is left out."""
    found = holder.get(key, 0) if isinstance(holder, dict) else None
    if type(found) is str and len(found) <= 20 and found.isascii() and found.isdigit():
        found = int(found)
        if found <= _LARGEST:
            return found  # as nearly all are
    if type(found) is not int or not 0 <= found <= _LARGEST:
        raise DiscoveryError(f"etcd's answer has {shown(found)} as {key}, which is a number of 64 bits")
    return found


def _bytes(kv: dict[str, Any], key: str) -> bytes:
    found = kv.get(key, "")
    if type(found) is str:
        try:
            return binascii.a2b_base64(found, strict_mode=True)
        except ValueError:
            pass
    raise DiscoveryError(f"etcd's answer has {shown(found)} as {key}, which is no base64")


def shown(value: Any) -> str:
    """Return what an error may show of a stranger's value: its beginning, or just its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:_TOLD]
