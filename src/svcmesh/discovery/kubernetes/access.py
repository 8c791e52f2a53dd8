"""Where the API server is and who we are to it: as a pod is told, or as a kubeconfig says.

A pod finds both in its environment and in the files of its service account. The token there is bound to the pod and
rotates about once an hour, so it is read for every request. Elsewhere it is the kubeconfig that ``kubectl`` uses.

Source: client-go (`rest.InClusterConfig`, `clientcmd`); the order is that of controller-runtime (`config.GetConfig`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from svcmesh.core.address import join_address, parse_port
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.lines import Server
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.tokens import token_in

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod has the files of its service account."""

WHOSE = "the API server's"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are. The token is never shown; ``token_file`` wins over ``token`` and is read for every request."""

    token: str | None = field(default=None, repr=False)
    token_file: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that say it, as of now.

        Raises:
            DiscoveryError: the token file cannot be read, or holds no token.
        """
        token = self.token
        if self.token_file is not None:
            token = token_in(self.token_file, WHOSE) or token
        return {"Authorization": f"Bearer {token}"} if token else {}


@dataclass(frozen=True, slots=True)
class Access:
    """All that is needed to ask. ``namespace``: our own, for services that are named without one."""

    server: Server
    credentials: Credentials = field(default_factory=Credentials)
    tls: Tls = field(default_factory=Tls)
    namespace: str = "default"


def in_cluster(environ: Mapping[str, str]) -> Access | None:
    """Return how a pod reaches its API server; None outside of a cluster.

    Raises:
        ConfigError: the environment names a port that is none.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        return None
    address = join_address(host, parse_port(port, "KUBERNETES_SERVICE_PORT"))
    return Access(
        Server(f"https://{address}"),
        Credentials(token_file=f"{ACCOUNT}/token"),
        Tls(ca_file=f"{ACCOUNT}/ca.crt"),
        environ.get("POD_NAMESPACE") or _own_namespace(),
    )


def files_of(environ: Mapping[str, str], named: str | None) -> list[Path]:
    """Return the kubeconfig files that are meant: the one that is ``named``, else those of ``KUBECONFIG``."""
    if named is not None:
        return [Path(named)]
    files = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [file for file in files if file.exists()] or files  # kubectl passes over those that are missing, too


def home_file(environ: Mapping[str, str]) -> Path | None:
    """Return ``~/.kube/config`` if it is there."""
    home = environ.get("HOME")
    file = Path(home) / ".kube" / "config" if home else None
    return file if file is not None and file.is_file() else None


def _own_namespace() -> str:
    file = Path(ACCOUNT, "namespace")
    try:
        with file.open(encoding="ascii") as opened:
            return opened.read(64).strip() or "default"
    except OSError:
        return "default"
    except UnicodeDecodeError:
        raise ConfigError(f"{file} holds no name of a namespace") from None
