"""What is asked of a control plane, as a URI says it: the name, and what kind of resource it is the name of.

``xds:///orders`` asks as gRPC does, for the listener of that name. Control planes that serve clusters alone, or
endpoints alone, are asked by ``?resource=cluster`` and ``?resource=endpoints``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.names import LONGEST_NAME
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, flag_in, query_of, seconds_in
from svcmesh.discovery.xds.bootstrap import NAME
from svcmesh.discovery.xds.kinds import Kind

WAIT = 15.0
"""Seconds after which a resource that has not come does not exist, as in gRPC (A57)."""

EVERY = 5.0
"""Seconds between two questions by REST, spread by a tenth."""

KEYS = ("bootstrap", "delta", "resource", "wait")
"""All keys of a query."""

REST_KEYS = ("cluster", "every", "id", "resource", "wait")
"""All keys of a query by REST."""

_KINDS = {"listener": Kind.LISTENER, "cluster": Kind.CLUSTER, "endpoints": Kind.ENDPOINTS}


@dataclass(frozen=True, slots=True)
class Question:
    """What a URI asks for.

    Attributes:
        name: may hold ``{service}``. kind: what it is the name of. wait: see `WAIT`.
        delta: whether changes are asked for. bootstrap: the file, if the URI names one.
        every: seconds between two questions by REST. node_id, node_cluster: who we are there.
        template: what the resource of a name is called, with ``%s`` for the name.
    """

    name: str = SERVICE
    kind: Kind = Kind.LISTENER
    wait: float = WAIT
    delta: bool = False
    bootstrap: str | None = None
    every: float = EVERY
    node_id: str = ""
    node_cluster: str = ""
    template: str = NAME

    def called(self, name: str) -> str:
        """Return what the resource at which the way of ``name`` begins is called."""
        return self.template.replace(NAME, name)

    def about(self, service: str) -> str:
        """Return the name that is asked for when ``service`` is watched.

        Raises:
            DiscoveryError: nothing can be called so.
        """
        name = self.name.replace(SERVICE, service)
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            size = 0
        if not service or not 0 < size <= LONGEST_NAME or name == "*":
            raise DiscoveryError("xDS has names of 1 to 4096 bytes of Unicode other than '*', and this is none")
        return name


def question_of(uri: Uri) -> Question:
    """Return what ``uri`` asks for.

    Raises:
        ConfigError: an authority, an unknown key, a value that cannot be.
    """
    query = query_of(uri, KEYS)
    if uri.authority:
        raise ConfigError(f"{uri.text!r}: write xds:///name; where the control plane is says the bootstrap file")
    bootstrap = query.get("bootstrap", [None])[0]
    if bootstrap == "":
        raise ConfigError(f"{uri.text!r}: bootstrap has no value")
    return Question(
        name=_name(uri),
        kind=_kind(uri, query),
        wait=seconds_in(uri, query, "wait", 0.1, 600.0) or WAIT,
        delta=flag_in(uri, query, "delta"),
        bootstrap=bootstrap,
    )


def rest_question_of(uri: Uri) -> Question:
    """Return what ``uri`` asks for by REST.

    Raises:
        ConfigError: an unknown key, a value that cannot be.
    """
    query = query_of(uri, REST_KEYS)
    return Question(
        name=_name(uri),
        kind=_kind(uri, query),
        wait=seconds_in(uri, query, "wait", 0.1, 600.0) or WAIT,
        every=seconds_in(uri, query, "every", 0.1, 600.0) or EVERY,
        node_id=query.get("id", ["svcmesh"])[0],
        node_cluster=query.get("cluster", [""])[0],
    )


def names_service(uri: Uri) -> bool:
    """Whether ``uri`` says which service is meant, so that nothing else has to."""
    return SERVICE not in _name(uri)


def _name(uri: Uri) -> str:
    name = decoded(uri, uri.path).removeprefix("/")
    if set("{}") & set(name.replace(SERVICE, "")):
        raise ConfigError(f"{uri.text!r}: the only thing that braces can hold is {SERVICE}")
    return name or SERVICE


def _kind(uri: Uri, query: Mapping[str, Sequence[str]]) -> Kind:
    resource = query.get("resource", ["listener"])[0]
    if resource not in _KINDS:
        raise ConfigError(f"{uri.text!r}: resource is {', '.join(_KINDS)}, not {resource!r}")
    return _KINDS[resource]
