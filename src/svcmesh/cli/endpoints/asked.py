"""What the command line asks for: a discovery, and the name that it is asked by.

It is what a program would ask in the same shell: a service that the environment sends elsewhere is looked for there,
and that is said, since whoever looks at a registry may have forgotten the variable.
"""

from __future__ import annotations

import os

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import Emit
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery, Named
from svcmesh.discovery.overrides import VARIABLE, overrides
from svcmesh.discovery.uri import open_discovery, open_service, takes_name
from svcmesh.discovery.uri_parts import guarded


def opened(uri: str, service: str | None, emit: Emit) -> tuple[Discovery, str]:
    """Open ``uri``; return the discovery and the name to watch.

    Args:
        uri: of a registry, or of one service. service: the name, where the URI does not say it.
        emit: told of what a backend had to leave out, and that the environment sends the service elsewhere.

    Raises:
        ConfigError: a bad URI, no name where one is needed, or one where the URI has it; a bad variable.
    """
    discovery = open_discovery(uri, clock=SYSTEM, emit=emit)
    if service is not None:
        if not takes_name(uri) and not isinstance(discovery, Named):
            raise ConfigError(f"{guarded(uri)!r} says itself which service is meant: leave {service!r} out")
        elsewhere = overrides(os.environ, lambda target: open_discovery(target, clock=SYSTEM, emit=emit)).get(service)
        if elsewhere is None:
            return discovery, service
        emit("config.warning", service=service, error=f"{VARIABLE} sends {service!r} elsewhere; this is what is there")
        return elsewhere, service
    try:
        return open_service(uri, clock=SYSTEM, emit=emit), uri
    except ConfigError:
        raise ConfigError(f"{guarded(uri)!r} names a registry: say which service of it, as a second argument") from None
