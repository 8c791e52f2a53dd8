"""Services that a developer points elsewhere, by the environment: ``SVCMESH_OVERRIDES``.

One service of many runs on the developer's machine, under a debugger, and everybody else is where they always are. That
is a matter of the process that is started, not of its program or its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.static import StaticDiscovery
from svcmesh.discovery.uri_parts import concealed

VARIABLE = "SVCMESH_OVERRIDES"


def overrides(environ: Mapping[str, str], opened: Callable[[str], Discovery]) -> dict[str, Discovery]:
    """Return the discoveries of overridden services, by name.

    ``orders=127.0.0.1:8080;billing=127.0.0.1:9001,127.0.0.1:9002;stock=file:///tmp/stock.yaml``: a name, and addresses
    or a URI. Endpoints that were given as addresses have the variable's name as ``metadata["source"]``, so that events
    and `Service.endpoints` show where they come from.

    Args:
        environ: the environment. opened: opens a URI that names its endpoints.

    Raises:
        ConfigError: it is not written like that; the message names the variable and the service.
    """
    found: dict[str, Discovery] = {}
    for item in environ.get(VARIABLE, "").split(";"):
        if not item.strip():
            continue
        name, equals, target = (part.strip() for part in item.partition("="))
        if not name or not equals or not target:
            raise ConfigError(
                f"{VARIABLE} is a list of name=host:port,host:port with ';' in between, not {concealed(item)!r}"
            )
        if name in found:
            raise ConfigError(f"{VARIABLE} names {name!r} twice")
        try:
            found[name] = opened(target) if "://" in target else _static(target)
        except ConfigError as error:
            raise ConfigError(f"{VARIABLE}, service {name!r}: {error}") from None
    return found


def _static(target: str) -> Discovery:
    addresses = [address.strip() for address in target.split(",")]
    try:
        return StaticDiscovery([Endpoint(address, metadata={"source": VARIABLE}) for address in addresses])
    except ConfigError:
        if "@" in target:  # a URI with a user, mistyped
            raise ConfigError(f"{concealed(target)!r} is neither a list of addresses nor a URI") from None
        raise
