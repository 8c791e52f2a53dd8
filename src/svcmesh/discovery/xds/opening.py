"""From a URI to a discovery: ``xds://`` by gRPC and its bootstrap file, ``xds+http://`` by REST."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from svcmesh.core.address import parse_address
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.environment import servers_of
from svcmesh.discovery.lines import Lines
from svcmesh.discovery.lines import Server as HttpServer
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.uri_parts import Surroundings, Uri
from svcmesh.discovery.xds.backend import Access, XdsDiscovery
from svcmesh.discovery.xds.bootstrap import bootstrap_for
from svcmesh.discovery.xds.delta import Incremental
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.question import question_of, rest_question_of
from svcmesh.discovery.xds.rest import PlainWorld, open_poll
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from svcmesh.discovery.xds.stream import open_stream

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"


def open_xds(uri: Uri, surroundings: Surroundings) -> XdsDiscovery:
    """Open an ``xds://`` URI; the bootstrap file is read, nothing is dialled.

    Raises:
        ConfigError: an authority, an unknown key in the query, no bootstrap file or one that cannot be used, or
            grpcio or protobuf is not installed.
    """
    question = question_of(uri)
    _check_installed(uri, grpc="grpcio", **{"google.protobuf": "protobuf"})
    bootstrap = bootstrap_for(question.bootstrap, surroundings.environ)
    node_of(bootstrap.node)  # what is wrong with it shows now
    if question.kind is Kind.LISTENER:
        question = replace(question, template=bootstrap.template)
    dialect = Incremental if question.delta else StateOfTheWorld
    method = f"{_SERVICE}/{'Delta' if question.delta else 'Stream'}AggregatedResources"
    access = Access(
        f"{','.join(server.target for server in bootstrap.servers)} {bootstrap.node.get('cluster', '')}",
        [partial(open_stream, server, method) for server in bootstrap.servers],
        lambda: dialect(node_of(bootstrap.node)),
        bootstrap.keeping,
    )
    return XdsDiscovery(access, question, clock=surroundings.clock, emit=surroundings.emit)


def open_rest(uri: Uri, surroundings: Surroundings) -> XdsDiscovery:
    """Open an ``xds+http://`` or ``xds+https://`` URI; nothing is dialled.

    Raises:
        ConfigError: no host or a malformed one, an unknown key in the query, or protobuf is not installed.
    """
    question = rest_question_of(uri)
    _check_installed(uri, **{"google.protobuf": "protobuf"})
    scheme = uri.scheme.removeprefix("xds+")
    servers = servers_of(uri, uri.authority, lambda host: _server(uri, scheme, host))
    lines = Lines(Tls(), "the control plane")
    node = {"id": question.node_id, "cluster": question.node_cluster, "metadata": {}, "locality": {}}
    node["user_agent_name"] = "svcmesh"
    access = Access(
        f"{','.join(server.url for server in servers)} {question.node_cluster}",
        [partial(open_poll, lines, server, question.every, surroundings.clock) for server in servers],
        partial(PlainWorld, node),
    )
    return XdsDiscovery(access, question, clock=surroundings.clock, emit=surroundings.emit)


def _server(uri: Uri, scheme: str, text: str) -> HttpServer:
    if "@" in text:
        raise ConfigError(f"{uri.text!r}: a control plane is reached by host:port, without a user")
    try:
        address = parse_address(text)
    except ConfigError as error:
        raise ConfigError(f"{uri.text!r}: {error}") from None
    if address.path is not None:
        raise ConfigError(f"{uri.text!r}: a control plane is reached by host:port")
    return HttpServer(f"{scheme}://{text}")


def _check_installed(uri: Uri, **packages: str) -> None:
    """Refuse to go on without libraries, which are given by module as they are to be installed."""
    missing = [package for module, package in packages.items() if not _is_installed(module)]
    if missing:
        raise ConfigError(f"{uri.text!r} needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
