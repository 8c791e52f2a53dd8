"""What the command line asks for: a discovery, and the name that it is asked by."""

from __future__ import annotations

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import Emit
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery, Named
from svcmesh.discovery.uri import open_discovery, open_service, takes_name
from svcmesh.discovery.uri_parts import redacted


def opened(uri: str, service: str | None, emit: Emit) -> tuple[Discovery, str]:
    """Open ``uri``; return the discovery and the name to watch.

    Args:
        uri: of a registry, or of one service. service: the name, where the URI does not say it.
        emit: told of what a backend had to leave out.

    Raises:
        ConfigError: a bad URI, no name where one is needed, or one where the URI has it.
    """
    discovery = open_discovery(uri, clock=SYSTEM, emit=emit)
    if service is not None:
        if not takes_name(uri) and not isinstance(discovery, Named):
            raise ConfigError(f"{redacted(uri)!r} says itself which service is meant: leave {service!r} out")
        return discovery, service
    try:
        return open_service(uri, clock=SYSTEM, emit=emit), uri
    except ConfigError:
        raise ConfigError(
            f"{redacted(uri)!r} names a registry: say which service of it, as a second argument"
        ) from None
