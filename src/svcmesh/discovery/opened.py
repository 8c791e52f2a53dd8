"""A discovery together with who is behind it, so that what one registry said is never taken for another's.

A name is what a service is called by one registry; the same name may be anybody's in the next. Whatever outlives the
process that learnt it (a cache on disk) has to know them apart, and secrets must have no part in that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery, Given, Identified
from svcmesh.discovery.uri import open_discovery, open_service

Source = str | Discovery | Mapping[str, Sequence[str | Endpoint]] | None
"""What ``Mesh(discovery=…)`` takes."""

_USER = re.compile(r"(?<=//)[^/?#]*@")
_SECRET = re.compile(r"(?i)(?<=[?&])([^=&#]*(?:token|pass|secret|key|auth|cred)[^=&#]*)=[^&#]*")


@dataclass(frozen=True, slots=True)
class Opened:
    """A discovery, and who is behind it; None where nobody is, see `Identified`."""

    discovery: Discovery
    identity: str | None


def opened(source: Source, *, clock: Clock, emit: Emit) -> Opened:
    """Open what ``Mesh(discovery=…)`` was given; arguments and errors as of `open_discovery`."""
    discovery = open_discovery(source, clock=clock, emit=emit)
    return Opened(discovery, identity_of(discovery, source))


def opened_service(uri: str, *, clock: Clock, emit: Emit) -> Opened:
    """Open what ``Mesh.service(uri)`` was given; arguments and errors as of `open_service`."""
    discovery = open_service(uri, clock=clock, emit=emit)
    return Opened(discovery, identity_of(discovery, uri))


def identity_of(discovery: Discovery, source: object) -> str | None:
    """Return who is behind ``discovery``, which was opened from ``source``: what it says, its URI, or its class.

    Raises:
        ConfigError: what it says is no text.
    """
    if isinstance(discovery, Given):
        return None
    if isinstance(discovery, Identified):
        said: object = discovery.identity
        if said is None or (isinstance(said, str) and said):
            return said
        raise ConfigError(f"identity of {type(discovery).__name__} must be a non-empty string or None, not {said!r}")
    if isinstance(source, str):
        return _SECRET.sub(r"\1=", _USER.sub("", source))
    return f"{type(discovery).__module__}.{type(discovery).__qualname__}"
