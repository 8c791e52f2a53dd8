"""Which registry the demo uses: the embedded one, a Consul or etcd that runs already, or one that it starts itself.

Only one of its own is ever killed. In one that others use too, the demo's services have names of their own.
"""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from svcmesh.cli.demo.problem import DemoError
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.consul.address import access as consul_agents
from svcmesh.discovery.etcd.address import access as etcd_members
from svcmesh.discovery.lines import Server
from svcmesh.discovery.uri import is_uri, parse
from svcmesh.discovery.uri_parts import guarded

LOCAL, CONSUL, ETCD = "local", "consul", "etcd"
KINDS = (LOCAL, CONSUL, ETCD)

_TITLES = {CONSUL: "Consul", ETCD: "etcd"}
_VARIABLES = {CONSUL: "CONSUL_HTTP_ADDR", ETCD: "ETCDCTL_ENDPOINTS"}
_PATIENCE = 3.0  # seconds in which one that runs has to take a connection


@dataclass(frozen=True)
class Source:
    """A registry to use.

    Attributes:
        kind: one of `KINDS`. running: the URI of one that runs already. program: what to start, for one of our own.
    """

    kind: str = LOCAL
    running: str = ""
    program: str = ""

    def uri(self, home: Path) -> str:
        """Return the discovery URI of one that the demo does not start; ``home`` is the demo's directory."""
        if self.kind == LOCAL:
            return f"local://{home}/registry"
        return f"{self.running}/{service_names()}"


def service_names() -> str:
    """Return a pattern for names of services that nobody else has."""
    return f"svcmesh-demo-{secrets.token_hex(4)}-{{service}}"


def source_for(wanted: str, program: str | None, environ: Mapping[str, str]) -> Source:
    """Return the registry that is wanted.

    Args:
        wanted: one of `KINDS`, or the URI of one that runs. program: path or name of the one to start.
        environ: has ``CONSUL_HTTP_ADDR`` or ``ETCDCTL_ENDPOINTS`` where one runs, and ``PATH``.

    Raises:
        DemoError: there is none, or it cannot be used.
    """
    if wanted == LOCAL:
        if program is not None:
            raise DemoError("--registry-binary is for --registry consul and --registry etcd")
        return Source()
    if wanted not in KINDS:
        if program is not None:
            raise DemoError("--registry names one that runs, --registry-binary one to start: leave one of them out")
        return _running(wanted, environ)
    if program is None and environ.get(_VARIABLES[wanted]):
        return _running(f"{wanted}://", environ)
    found = shutil.which(program or wanted, path=environ.get("PATH"))
    if found is None:
        raise DemoError(_missing(wanted, program))
    return Source(wanted, program=found)


def _missing(kind: str, program: str | None) -> str:
    if program is not None:
        return f"--registry-binary {program}: there is no such program"
    return (
        f"there is no {_TITLES[kind]} here: put {kind} into PATH, name the program by --registry-binary, or say by "
        f"{_VARIABLES[kind]} or --registry {kind}://host:port where one runs"
    )


def _running(text: str, environ: Mapping[str, str]) -> Source:
    """Return a registry that runs, once it is known to take connections."""
    kind = text.partition("://")[0].partition("+")[0].lower() if is_uri(text) else ""
    if kind not in _TITLES:
        raise DemoError(f"--registry is {', '.join(KINDS)}, or the URI of a Consul or an etcd, not {guarded(text)!r}")
    try:
        uri = parse(text)
        if "@" in uri.authority or uri.path.strip("/") or uri.query:
            raise DemoError(
                f"--registry {uri.text}: scheme and address are all that it takes; tokens and passwords go into the "
                "variables that consul and etcdctl read, and names are the demo's own"
            )
        reached = consul_agents(uri, environ).agents if kind == CONSUL else etcd_members(uri, environ).members
    except ConfigError as error:
        raise DemoError(f"--registry: {error}") from None
    refusals = [_refusal(server) for server in reached]
    if all(refusals):
        raise DemoError(f"there is no {_TITLES[kind]} at {'; '.join(refusals)}")
    return Source(kind, running=f"{uri.scheme}://{uri.authority}")


def _refusal(server: Server) -> str:
    """Return why nobody can be reached there; empty when somebody can."""
    place = urlsplit(server.url)
    try:
        if server.socket is None:
            socket.create_connection((place.hostname or "", place.port or 0), _PATIENCE).close()
        else:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_PATIENCE)
                connection.connect(server.socket)
    except OSError as error:
        return f"{server.shown}: {error.strerror or error}"
    return ""
