"""The bootstrap file of gRPC: where the control plane is, who we are to it, and how listeners are called.

What works for a gRPC client on a machine works here without a further word: the same file, the same two variables.
Fields that are not known are skipped, as gRPC does, since the file is shared with clients of other versions.

Source: gRPC, proposals A27 (bootstrap), A53 (deletion), A65 (mTLS), A71 (several servers).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.tls import Tls

FILE, INLINE = "GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG"

NAME = "%s"
"""Where the name of a service stands in a template."""

_LARGEST = 1024 * 1024  # bytes of a file
_KEEPING = "ignore_resource_deletion"


@dataclass(frozen=True, slots=True)
class Server:
    """A control plane: a target of gRPC, and how it is spoken to; ``tls`` None: in the clear."""

    target: str
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a bootstrap file says.

    Attributes:
        servers: control planes; each stands in for those before it. node: who we are, as the file has it.
        template: what the listener of a service is called, with ``%s`` for its name.
        keeping: a listener or cluster that is taken away is to be used on: a feature of one of the servers.
    """

    servers: tuple[Server, ...]
    node: Mapping[str, Any] = field(default_factory=dict)
    template: str = NAME
    keeping: bool = False


def bootstrap_for(file: str | None, environ: Mapping[str, str]) -> Bootstrap:
    """Return what ``file`` says, or, without one, what the environment names.

    Raises:
        ConfigError: there is none, or it cannot be used; the message names the field.
    """
    file = file or environ.get(FILE)
    if file:
        return bootstrap_of(_read(file), file)
    inline = environ.get(INLINE)
    if inline:
        return bootstrap_of(inline, INLINE)
    raise ConfigError(
        f"no control plane is known: {FILE} in the environment names gRPC's bootstrap file, or ?bootstrap= in the URI"
    )


def bootstrap_of(text: str, where: str) -> Bootstrap:
    """Return what a document says; ``where`` is what errors call it.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is no JSON: {error}") from None
    listed = _typed(document, dict, where, "the document").get("xds_servers")
    servers = tuple(
        _server(one, where, f"xds_servers[{number}]")
        for number, one in enumerate(_typed(listed, list, where, "xds_servers"))
    )
    if not servers:
        raise ConfigError(f"{where}: xds_servers names no control plane")
    template = document.get("client_default_listener_resource_name_template") or NAME
    template = _typed(template, str, where, "client_default_listener_resource_name_template")
    keeping = any(_KEEPING in _features(one, where, f"xds_servers[{number}]") for number, one in enumerate(listed))
    return Bootstrap(servers, _typed(document.get("node") or {}, dict, where, "node"), template, keeping)


def _server(found: Any, where: str, named: str) -> Server:
    server = _typed(found, dict, where, named)
    target = _typed(server.get("server_uri"), str, where, f"{named}.server_uri")
    if not target or not target.isprintable() or " " in target or target.startswith("xds:"):
        raise ConfigError(f"{where}: {named}.server_uri is host:port or another target of gRPC, not {target[:80]!r}")
    listed = _typed(server.get("channel_creds"), list, where, f"{named}.channel_creds")
    for number, one in enumerate(listed):
        place = f"{named}.channel_creds[{number}]"
        kind = _typed(one, dict, where, place).get("type")
        if kind == "insecure":
            return Server(target)
        if kind == "tls":
            return Server(target, _tls(_typed(one.get("config") or {}, dict, where, f"{place}.config"), where, place))
    raise ConfigError(f"{where}: {named}.channel_creds has none that is known; known are 'insecure' and 'tls'")


def _features(server: Mapping[str, Any], where: str, named: str) -> list[Any]:
    found: list[Any] = _typed(server.get("server_features") or [], list, where, f"{named}.server_features")
    return found


def _tls(config: Mapping[str, Any], where: str, place: str) -> Tls:
    named = ("ca_certificate_file", "certificate_file", "private_key_file")
    files = [_typed(config.get(key) or "", str, where, f"{place}.config.{key}") or None for key in named]
    authority, certificate, key = files
    if (certificate is None) != (key is None):
        raise ConfigError(f"{where}: {place}.config has one of certificate_file and private_key_file without the other")
    return Tls(ca_file=authority, certificate=certificate, key=key)


def _typed(found: Any, kind: type, where: str, named: str) -> Any:
    if not isinstance(found, kind):
        words = {"dict": "an object", "list": "a list", "str": "text"}
        raise ConfigError(f"{where}: {named} must be {words[kind.__name__]}, not {type(found).__name__}")
    return found


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{file} is too large for a bootstrap file")
        return content.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the bootstrap file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None
