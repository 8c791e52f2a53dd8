"""What is asked of Consul, as the query of a URI says it: which instances, of which datacenter, how consistent.

A key that Consul would ignore is an error here: a misspelt ``ragion`` that is dropped would be believed to filter.
"""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.consul.entries import USUAL, Reading
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, flag_in, query_of, seconds_in

WAIT = 60.0
"""Seconds for which Consul holds a question while nothing changes. Its own default is 300; a shorter one notices
connections that died in silence, and costs a request a minute."""

EVERY = 10.0
"""Seconds between two executions of a prepared query, which cannot be held."""

_PASSED_ON = ("dc", "near", "ns", "partition", "peer", "sg", "filter")
_FLAGS = ("stale", "consistent", "leader", "cached", "passing")
_REPEATED = ("tag", "node-meta")
_NARROWING = frozenset({*_REPEATED, "filter", "near", "passing", "sg", "limit"})
_OWN = ("max-stale", "query", "limit", "address", "wait", "every", "token-file", "service")
KEYS = frozenset((*_PASSED_ON, *_FLAGS, *_REPEATED, *_OWN))
"""All keys of a query."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a URI asks for.

    Attributes:
        name: the service or prepared query; may hold ``{service}``, and is just that where the URI names none.
        is_query: whether it is a prepared query.
        params: what goes along with every request.
        reading: how the answer is read.
        wait, every: seconds, see `WAIT` and `EVERY`.
        max_stale: seconds since the answering server heard of the leader above which its answer is refused, or None.
    """

    name: str = SERVICE
    is_query: bool = False
    params: tuple[tuple[str, str], ...] = (("stale", ""),)
    reading: Reading = USUAL
    wait: float = WAIT
    every: float = EVERY
    max_stale: float | None = None

    def named(self, service: str) -> str:
        """Return what to ask for when ``service`` is watched."""
        return self.name.replace(SERVICE, service)

    @property
    def about_all(self) -> tuple[tuple[str, str], ...]:
        """`params` for a question about all services: without what narrows the instances of one."""
        return tuple(pair for pair in self.params if pair[0] not in _NARROWING)

    @property
    def of_servers(self) -> tuple[tuple[str, str], ...]:
        """`params` for a question that no agent answers by what it keeps."""
        return tuple(("stale" if key == "cached" else key, value) for key, value in self.params)


def question_of(uri: Uri) -> Question:
    """Return what ``uri`` asks for.

    Raises:
        ConfigError: an unknown key, a value that cannot be, or two that contradict each other.
    """
    query = query_of(uri, KEYS, _REPEATED)
    name, is_query = _name(uri, query)
    address = query.get("address", [""])[0]
    return Question(
        name=name,
        is_query=is_query,
        params=_params(uri, query, is_query=is_query),
        reading=Reading("" if address == "lan" else address, ordered="near" in query),
        wait=seconds_in(uri, query, "wait", 1.0, 600.0) or WAIT,
        every=seconds_in(uri, query, "every", 0.1, 86_400.0) or EVERY,
        max_stale=seconds_in(uri, query, "max-stale", 0.001, 86_400.0),
    )


def token_file_of(uri: Uri) -> str | None:
    """Return the file of the token that ``uri`` names, if it does."""
    return query_of(uri, KEYS, _REPEATED).get("token-file", [None])[0]


def names_service(uri: Uri) -> bool:
    """Whether ``uri`` says which service or prepared query is meant, so that nothing else has to."""
    return SERVICE not in question_of(uri).name


def _name(uri: Uri, query: dict[str, list[str]]) -> tuple[str, bool]:
    """Return the name that is asked for, and whether it is one of a prepared query."""
    in_path = "" if uri.scheme == "consul+unix" and not uri.authority else decoded(uri, uri.path.removeprefix("/"))
    asked, executed = query.get("service", [""])[0], query.get("query", [""])[0]
    is_flag = executed in {"", "true", "1"}
    given = [name for name in (in_path, asked, "" if is_flag else executed) if name]
    if len(given) > 1:
        raise ConfigError(f"{uri.text!r} names a service twice: give it in the path, or by service= or query=")
    name = given[0] if given else SERVICE
    if in_path.endswith("/") or set("{}") & set(name.replace(SERVICE, "", 1)):
        raise ConfigError(f"{uri.text!r}: after the address stands the name of a service, or {SERVICE}, and no more")
    return name, "query" in query and executed not in {"false", "0"}


def _params(uri: Uri, query: dict[str, list[str]], *, is_query: bool) -> tuple[tuple[str, str], ...]:
    flags = [key for key in _FLAGS if flag_in(uri, query, key)]
    modes = [key for key in flags if key != "passing"]
    if len(modes) > 1:
        raise ConfigError(f"{uri.text!r}: {' and '.join(modes)} exclude each other")
    if not modes and "stale" not in query:
        flags.append("stale")  # any server may answer, also while there is no leader: old data beats none
    if is_query and ("passing" in flags or "filter" in query or "tag" in query):
        raise ConfigError(
            f"{uri.text!r}: a prepared query says itself what it filters; passing, filter, tag do not apply"
        )
    if "limit" in query and not is_query:
        raise ConfigError(f"{uri.text!r}: limit applies to prepared queries only")
    keys = (*_PASSED_ON, *_REPEATED, "limit")
    for key in keys:
        if "" in query.get(key, ()):
            raise ConfigError(f"{uri.text!r}: {key} has no value")
    return tuple((key, "") for key in flags) + tuple((key, value) for key in keys for value in query.get(key, ()))
