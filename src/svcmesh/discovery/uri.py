"""Discovery URIs: a literal table from scheme to opener, and rules that hold for all of them.

A URI is typed by people and pasted into environment variables. Whatever has no meaning in it (a query, a fragment, a
trailing comma) is an error that says so: silently ignored, it would be believed to work. Error messages never
repeat the user part of a URI, where registries take passwords and tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.consul.backend import open_consul
from svcmesh.discovery.consul.question import names_service
from svcmesh.discovery.dns.backend import open_dns
from svcmesh.discovery.dns.question import names_endpoints
from svcmesh.discovery.etcd.backend import open_etcd, open_etcd_service
from svcmesh.discovery.etcd.target import names_service as names_target
from svcmesh.discovery.file import FileDiscovery, path_of
from svcmesh.discovery.kubernetes.backend import open_kubernetes
from svcmesh.discovery.kubernetes.question import names_service as names_kubernetes_service
from svcmesh.discovery.local.directory import default_directory
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.plugged import plugged
from svcmesh.discovery.static import DictDiscovery, StaticDiscovery
from svcmesh.discovery.uri_parts import (
    SERVICE,
    Scheme,
    Surroundings,
    Unopened,
    Uri,
    concealed,
    decoded,
    guarded,
    no_query,
)
from svcmesh.discovery.xds.document import open_document
from svcmesh.discovery.xds.opening import open_rest, open_xds
from svcmesh.discovery.xds.question import names_service as names_resource

_PARTS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def open_discovery(
    source: str | Discovery | Mapping[str, Sequence[str | Endpoint]] | None,
    *,
    clock: Clock,
    emit: Emit,
    environ: Mapping[str, str] | None = None,
) -> Discovery:
    """Open what `Mesh(discovery=…)` was given; nothing is read or started yet.

    Args:
        source: a URI, an object with a ``watch`` method, ``{name: [address, …]}``, or None for ``local://``.
        clock: what the backend waits by.
        emit: where it reports what it had to leave out.
        environ: the environment; None is the process's own.

    Raises:
        ConfigError: an unknown scheme, a malformed URI, a bad address, or something that is none of the above.
    """
    surroundings = Surroundings(clock, emit, os.environ if environ is None else environ)
    if source is None:
        source = "local://"
    if isinstance(source, str):
        uri = parse(source)
        return _scheme(uri.scheme).open(uri, surroundings)
    if isinstance(source, Mapping):
        return DictDiscovery(source)
    if isinstance(source, type) or not isinstance(source, Discovery):
        raise ConfigError(
            "discovery must be a URI such as 'local://', a dict of addresses by service name, or an object with a "
            f"watch(service) method, not {type(source).__name__}"
        )
    return source.opened(surroundings) if isinstance(source, Unopened) else source


def open_service(source: str, *, clock: Clock, emit: Emit, environ: Mapping[str, str] | None = None) -> Discovery:
    """Open what `Mesh.service(uri)` was given: a URI that names its endpoints itself.

    The result ignores the name that its ``watch`` is asked for, unless the URI is a file that maps names to lists.

    Raises:
        ConfigError: as `open_discovery`; also a scheme that needs a service name, or a ``{service}`` left open.
    """
    uri = parse(source)
    if _leaves_name_open(uri):
        raise ConfigError(f"{uri.text!r}: {SERVICE} has a meaning in Mesh(discovery=…) only; write the name")
    scheme = _scheme(uri.scheme)
    if not scheme.names_endpoints(uri):
        raise ConfigError(
            f"{uri.text!r} names a registry and no service: pass it as Mesh(discovery=…) and ask for a service by name"
        )
    if scheme.alone is None:
        return open_discovery(source, clock=clock, emit=emit, environ=environ)
    return scheme.alone(uri, Surroundings(clock, emit, os.environ if environ is None else environ))


def takes_name(source: str) -> bool:
    """Whether a URI means a registry, in which a service has a name, if it is not said to stand for a service.

    Raises:
        ConfigError: as `parse`.
    """
    uri = parse(source)
    scheme = _scheme(uri.scheme)
    return _leaves_name_open(uri) or scheme.alone is not None or not scheme.names_endpoints(uri)


def _leaves_name_open(uri: Uri) -> bool:
    return SERVICE in unquote(uri.authority.rpartition("@")[2] + uri.path)


def is_uri(text: str) -> bool:
    """Whether ``text`` is meant as a URI rather than as the name of a service."""
    return "://" in text


def parse(text: str) -> Uri:
    """Take a URI apart.

    Raises:
        ConfigError: no URI, a scheme that is not known, spaces or control characters, a fragment, a ``%`` that
            encodes nothing.
    """
    parts = _PARTS.fullmatch(text)
    shown = concealed(text) if parts is None else guarded(text)
    if _UNPRINTABLE.search(text):
        raise ConfigError(f"discovery URI {shown!r} holds a space or a control character: write it as %20 or the like")
    if parts is None:
        raise ConfigError(f"{shown!r} is no discovery URI: it begins with a scheme, as in 'static://10.0.0.1:8080'")
    scheme = parts["scheme"].lower()
    _scheme(scheme)
    if _BAD_PERCENT.search(text):
        raise ConfigError(f"discovery URI {shown!r}: '%' must be followed by two hexadecimal digits")
    query, hash_sign, _ = parts["rest"].partition("#")
    if hash_sign:
        raise ConfigError(f"discovery URI {shown!r} has a fragment, which means nothing here: write '#' as %23")
    return Uri(shown, scheme, parts["authority"], parts["path"], query[1:] if query else None)


def _scheme(name: str) -> Scheme:
    """Return the scheme called ``name``: one of ours, or one that an installed package brings.

    Raises:
        ConfigError: there is none, or its package cannot be loaded.
    """
    scheme = SCHEMES.get(name) or plugged(name)
    if scheme is None:
        raise ConfigError(f"unknown discovery scheme {name!r}; known are {', '.join(sorted(SCHEMES))}")
    return scheme


def _open_static(uri: Uri, _: Surroundings) -> Discovery:
    no_query(uri)
    if uri.path:
        raise ConfigError(f"{uri.text!r}: nothing follows the addresses (a unix socket is unix:%2Frun%2Fapp.sock)")
    addresses = uri.authority.split(",")
    if "" in addresses:
        raise ConfigError(f"{uri.text!r}: an address is missing; write it as static://10.0.0.1:8080,10.0.0.2:8080")
    if "@" in uri.authority:
        raise ConfigError(f"{uri.text!r}: addresses are host:port, without a user")
    return StaticDiscovery([decoded(uri, address) for address in addresses])


def _open_file(uri: Uri, surroundings: Surroundings) -> Discovery:
    return FileDiscovery(path_of(uri), clock=surroundings.clock, emit=surroundings.emit)


def _open_local(uri: Uri, surroundings: Surroundings) -> Discovery:
    no_query(uri)
    if uri.authority or SERVICE in uri.path:
        raise ConfigError(
            f"{uri.text!r}: local:// takes nothing but an absolute directory, as in local:///run/mesh; "
            "services are directories in it"
        )
    directory = decoded(uri, uri.path) or default_directory(surroundings.environ)
    return LocalRegistry(directory, clock=surroundings.clock, emit=surroundings.emit)


SCHEMES: Mapping[str, Scheme] = {
    "static": Scheme(_open_static, complete=True),
    "file": Scheme(_open_file, complete=True),
    "local": Scheme(_open_local, complete=False),
    "consul": Scheme(open_consul, complete=names_service),
    "consul+https": Scheme(open_consul, complete=names_service),
    "consul+unix": Scheme(open_consul, complete=names_service),
    "etcd": Scheme(open_etcd, complete=names_target, alone=open_etcd_service),
    "etcd+https": Scheme(open_etcd, complete=names_target, alone=open_etcd_service),
    "k8s": Scheme(open_kubernetes, complete=names_kubernetes_service),
    "dns": Scheme(open_dns, complete=names_endpoints),
    "dns+srv": Scheme(open_dns, complete=names_endpoints),
    "xds": Scheme(open_xds, complete=names_resource),
    "xds+file": Scheme(open_document, complete=False),
    "xds+http": Scheme(open_rest, complete=names_resource),
    "xds+https": Scheme(open_rest, complete=names_resource),
}
"""All schemes of ours. A backend adds its line here; packages bring others by entry points (`plugged`)."""
