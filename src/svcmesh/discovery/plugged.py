"""Backends that other packages bring: an entry point of the group ``svcmesh.discovery``, called as its scheme is.

In the ``pyproject.toml`` of such a package stands::

    [project.entry-points."svcmesh.discovery"]
    zk = "mesh_zookeeper:open"

and ``open`` is called with the whole URI, as text, and returns an object with a ``watch(service)`` method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.uri_parts import Scheme, Surroundings, Unopened, Uri

GROUP = "svcmesh.discovery"


def plugged(scheme: str) -> Scheme | None:
    """Return the scheme that an installed package brings; None where none does.

    A URI with a path stands for one service, one without for a registry of names. Cost: a look at the metadata of all
    installed packages.

    Raises:
        ConfigError: two packages bring it, or the one that does cannot be loaded.
    """
    from importlib.metadata import entry_points

    found = list(entry_points(group=GROUP, name=scheme))
    if not found:
        return None
    packages = sorted({getattr(entry.dist, "name", None) or entry.value for entry in found})
    if len({entry.value for entry in found}) > 1:
        raise ConfigError(f"{scheme}:// is brought by {' and '.join(packages)}: uninstall all but one of them")
    try:
        opener = found[0].load()
    except Exception as error:
        raise ConfigError(f"{scheme}:// is brought by {packages[0]}, which cannot be loaded: {error!r}") from error
    return Scheme(_opening(opener, scheme, packages[0]), complete=lambda uri: bool(uri.path.strip("/")))


def _opening(opener: Callable[[str], Any], scheme: str, package: str) -> Callable[[Uri, Surroundings], Discovery]:
    def opened(uri: Uri, surroundings: Surroundings) -> Discovery:
        query = "" if uri.query is None else f"?{uri.query}"
        found = opener(f"{scheme}://{uri.authority}{uri.path}{query}")
        if isinstance(found, type) or not isinstance(found, Discovery):
            raise ConfigError(
                f"{package} opened {uri.text!r} as {type(found).__name__}, which has no watch(service) method"
            )
        return found.opened(surroundings) if isinstance(found, Unopened) else found

    return opened
