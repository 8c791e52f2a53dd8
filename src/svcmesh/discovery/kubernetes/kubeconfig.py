"""The part of a kubeconfig that a client needs: the current context's cluster and user.

Whatever changes who we are or where we go and cannot be done here (a plugin that fetches credentials, a proxy, acting
as somebody else) is refused: ignored, it would be believed to work. Certificates and keys that stand in the file itself
are used as they are, except that a client's key goes through a private temporary file, which OpenSSL insists on.

Source: Kubernetes, client-go/tools/clientcmd (api/v1/types.go, loader.go).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.documents import parse_document
from svcmesh.discovery.kubernetes.access import WHOSE, Access, Credentials
from svcmesh.discovery.lines import Server
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.tokens import check_token

LARGEST = 4 * 1024 * 1024
"""Bytes that a kubeconfig may have."""

_KINDS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))
_REFUSED_OF_USER = {
    "exec": "a plugin is not run: put a token into tokenFile, or use a service account",
    "auth-provider": "a plugin is not run: put a token into tokenFile, or use a service account",
    "username": "API servers take no passwords any more",
    "password": "API servers take no passwords any more",
    "as": "acting as somebody else is not supported",
    "as-uid": "acting as somebody else is not supported",
    "as-groups": "acting as somebody else is not supported",
    "as-user-extra": "acting as somebody else is not supported",
}
_REFUSED_OF_CLUSTER = {"proxy-url": "proxies are not used"}
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def access_of(files: Sequence[Path], context: str | None = None) -> Access:
    """Return the access that kubeconfig files describe; of several the first one that names something has the say.

    Args:
        files: at least one. context: the one to use instead of the current one.

    Raises:
        ConfigError: a file is missing or cannot be understood, a name leads nowhere, or something is refused.
    """
    shown = ", ".join(map(str, files))
    current = ""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind, _ in _KINDS}
    for file in files:
        document = _document(file)
        current = current or _text(document, "current-context", file)
        for kind, inner in _KINDS:
            for name, value in _named(document, kind, inner, file):
                found[kind].setdefault(name, value)
    wanted = context or current
    if not wanted:
        raise ConfigError(f"{shown}: there is no current-context; name one in the URI (?context=)")
    chosen = _get(found["contexts"], wanted, "context", shown)
    cluster = _get(found["clusters"], chosen.get("cluster"), "cluster", shown)
    user = _get(found["users"], chosen["user"], "user", shown) if chosen.get("user") else {}
    where = f"{shown}, context {wanted!r}"
    for holder, refused in ((cluster, _REFUSED_OF_CLUSTER), (user, _REFUSED_OF_USER)):
        for key, why in refused.items():
            if holder.get(key):
                raise ConfigError(f"{where}: {key}: {why}")
    return Access(
        _server(cluster, where),
        _credentials(user, where),
        _tls(cluster, user, where),
        _text(chosen, "namespace", where) or "default",
    )


def _document(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{file} has more than {LARGEST} bytes: it is no kubeconfig")
        found = parse_document(content.decode(), str(file), is_json=False)
    except OSError as error:
        raise ConfigError(f"cannot read the kubeconfig {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read the kubeconfig {file}: it is no UTF-8") from None
    except DiscoveryError as error:
        raise ConfigError(f"cannot read the kubeconfig {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file} is no kubeconfig: expected a mapping")
    return found


def _named(document: dict[str, Any], kind: str, inner: str, file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return what is listed under ``kind``, by name; paths in it are relative to the file."""
    listed = document.get(kind) or []
    found: list[tuple[str, dict[str, Any]]] = []
    for one in listed if isinstance(listed, list) else [None]:
        name, value = (one.get("name"), one.get(inner) or {}) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, dict):
            raise ConfigError(f"{file}: {kind} is a list of {{name, {inner}}}")
        paths = {key: str(file.parent / value[key]) for key in _FILES if isinstance(value.get(key), str) and value[key]}
        found.append((name, value | paths))
    return found


def _get(found: dict[str, dict[str, Any]], name: object, what: str, shown: str) -> dict[str, Any]:
    if not isinstance(name, str) or name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"{shown}: there is no {what} {name!r}; known: {known}")
    return found[name]


def _text(holder: dict[str, Any], key: str, where: object) -> str:
    """Return a text, "" where there is none; the value of what is none is not repeated."""
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}: {key} must be text")
    return value or ""


def _flag(holder: dict[str, Any], key: str, where: str) -> bool:
    value = holder.get(key)
    if not isinstance(value, bool | None):
        raise ConfigError(f"{where}: {key} is true or false")
    return bool(value)


def _server(cluster: dict[str, Any], where: str) -> Server:
    url = _text(cluster, "server", where)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or set("?#@") & set(url):
        raise ConfigError(f"{where}: server must be a URL such as https://10.0.0.1:6443")
    return Server(url.rstrip("/"))


def _credentials(user: dict[str, Any], where: str) -> Credentials:
    token, file = _text(user, "token", where), _text(user, "tokenFile", where)
    if token:
        check_token(token, WHOSE, where)
    return Credentials(token or None, file or None)


def _tls(cluster: dict[str, Any], user: dict[str, Any], where: str) -> Tls:
    certificate, certificate_data = _material(user, "client-certificate", where)
    key, key_data = _material(user, "client-key", where)
    if bool(certificate or certificate_data) != bool(key or key_data):
        raise ConfigError(f"{where}: client-certificate and client-key belong together; one of them is missing")
    ca_file, ca_data = _material(cluster, "certificate-authority", where)
    return Tls(
        ca_file=ca_file,
        ca_data=ca_data,
        certificate=certificate,
        key=key,
        certificate_data=certificate_data,
        key_data=key_data,
        server_name=_text(cluster, "tls-server-name", where) or None,
        verify=not _flag(cluster, "insecure-skip-tls-verify", where),
    )


def _material(holder: dict[str, Any], key: str, where: str) -> tuple[str | None, str | None]:
    """Return the file of a certificate or key, and what stands in place of a file, which wins."""
    data = _text(holder, f"{key}-data", where)
    if not data:
        return _text(holder, key, where) or None, None
    try:
        return None, base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise ConfigError(f"{where}: {key}-data must be PEM in base64") from None
