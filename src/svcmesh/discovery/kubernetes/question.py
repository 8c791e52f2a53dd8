"""What is asked of Kubernetes, as a URI says it: which service, in which namespace, at which port.

``k8s://prod/orders:grpc`` names all three; ``k8s://`` leaves all of them to the name of the service that is watched,
which may be ``orders``, ``orders.prod`` as in the cluster's DNS, ``prod/orders`` or ``orders:grpc``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from svcmesh.core.address import parse_port
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.kubernetes.endpoints import Reading
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, query_of, seconds_in

WAIT = 300.0
"""Seconds after which the API server is asked to end a watch, up to a tenth more or less, as client-go does."""

KEYS = ("context", "family", "kubeconfig", "wait", "zone")
"""All keys of a query."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FAMILIES = {"4": (4,), "6": (6,), "any": (4, 6)}


class Target(NamedTuple):
    """Whose endpoints are meant. ``namespace`` "": that of our own pod. ``port`` as in `Reading`."""

    namespace: str
    name: str
    port: str | int | None


@dataclass(frozen=True, slots=True)
class Question:
    """What a URI asks for.

    Attributes:
        namespace: "" where the name of the service says it, or else our own is meant.
        name: of the service; may hold ``{service}``. port: a name or a number; "" where the service's name may say it.
        families: IP versions, the preferred one first. zone: the caller's. wait: see `WAIT`.
        kubeconfig, context: the file that says where the cluster is, and which part of it, if the URI does.
    """

    namespace: str = ""
    name: str = SERVICE
    port: str = ""
    families: tuple[int, ...] = (4, 6)
    zone: str = ""
    wait: float = WAIT
    kubeconfig: str | None = None
    context: str | None = None

    def about(self, service: str) -> Target:
        """Return what is meant when ``service`` is watched.

        Raises:
            DiscoveryError: nothing in Kubernetes can be called so.
        """
        name = self.name.replace(SERVICE, service)
        try:
            return target_of(self.namespace, name, self.port)
        except ConfigError as error:
            raise DiscoveryError(str(error)) from None

    def reading(self, target: Target) -> Reading:
        """Return how the slices of ``target`` are read."""
        return Reading(target.port, self.families, self.zone)


def question_of(uri: Uri) -> Question:
    """Return what ``uri`` asks for.

    Raises:
        ConfigError: a name that nothing in Kubernetes can have, an unknown key, a value that cannot be.
    """
    query = query_of(uri, KEYS)
    for key in KEYS:
        if "" in query.get(key, ()):
            raise ConfigError(f"{uri.text!r}: {key} has no value")
    family = query.get("family", ["any"])[0]
    if family not in _FAMILIES:
        raise ConfigError(f"{uri.text!r}: family is 4, 6 or any, not {family!r}")
    namespace, name, port = _named(uri)
    return Question(
        namespace=namespace,
        name=name,
        port=port,
        families=_FAMILIES[family],
        zone=query.get("zone", [""])[0],
        wait=seconds_in(uri, query, "wait", 1.0, 3600.0) or WAIT,
        kubeconfig=query.get("kubeconfig", [None])[0],
        context=query.get("context", [None])[0],
    )


def names_service(uri: Uri) -> bool:
    """Whether ``uri`` says which service is meant, so that nothing else has to."""
    return SERVICE not in question_of(uri).name


def target_of(namespace: str, name: str, port: str) -> Target:
    """Return what ``[namespace/]name[:port]`` or ``name.namespace[.svc…][:port]`` means; what is given comes before it.

    Raises:
        ConfigError: it is no such name.
    """
    shown, colon, own_port = repr(name[:80]), "", ""
    if not port:
        name, colon, own_port = name.partition(":")
    if not namespace:
        namespace, slash, last = name.rpartition("/")
        name = last if slash else name
        if not slash and "." in name:
            name, namespace = _of_dns(name)
        elif slash and not namespace:
            name = ""
    name = name.lower()
    for what, label in (("service", name), ("namespace", namespace or "x")):
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"no {what} in Kubernetes is called {label[:80]!r} (in {shown}): write orders, orders.prod, "
                "prod/orders or orders:http"
            )
    if colon and not own_port:
        raise ConfigError(f"{shown}: after ':' stands a port, its name or its number")
    return Target(namespace, name, _port(port or own_port, shown))


def _of_dns(name: str) -> tuple[str, str]:
    """Return service and namespace of ``orders.prod``, ``orders.prod.svc`` or ``orders.prod.svc.cluster.local``."""
    parts = name.removesuffix(".").split(".")
    return (parts[0], parts[1]) if len(parts) == 2 or parts[2:3] == ["svc"] else (name, "")


def _port(text: str, where: str) -> str | int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return parse_port(text, where)
    if not _LABEL.fullmatch(text):
        raise ConfigError(f"{where}: no port in Kubernetes is called {text[:80]!r}")
    return text


def _named(uri: Uri) -> tuple[str, str, str]:
    """Return namespace, name and port as they stand in a URI."""
    first, rest = decoded(uri, uri.authority), decoded(uri, uri.path).removeprefix("/")
    if "@" in first:
        raise ConfigError(f"{uri.text!r}: the token does not stand in the URI but in the pod, or in a kubeconfig")
    namespace, text = (first, rest) if uri.path else ("", first)
    name, colon, port = text.partition(":")
    if "/" in text or ":" in namespace or (colon and not port) or set("{}") & set(text.replace(SERVICE, "")):
        raise ConfigError(f"{uri.text!r}: write k8s://[namespace/]service[:port], or {SERVICE} for the service")
    try:
        target_of(namespace, name.replace(SERVICE, "x") or "x", port)
    except ConfigError as error:
        raise ConfigError(f"{uri.text!r}: {error}") from None
    return namespace, name or SERVICE, port
