"""Endpoints from a JSON or YAML file that is read again when it changes: ``file:///etc/mesh.yaml``.

The file is looked at, not subscribed to: one ``stat`` 25 times a second works on every file system and sees
every way to replace a file (written in place, renamed over, a symlink pointed elsewhere, as Kubernetes does).

Reads happen inline on the worker's loop. A configuration file is small and lies on a local disk, where a read takes
less time than handing it to a thread would, and a mesh owns one thread and no pool of them; only a file that is large
enough to hold that thread up is parsed beside it.
"""

from __future__ import annotations

import glob
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from cachetools import LRUCache

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.documents import STRICT_JSON, line_of, parse_document, text_of
from svcmesh.discovery.elements import Known, read_elements
from svcmesh.discovery.file_watched import POLL, SELDOM, WatchedFile
from svcmesh.discovery.listing import ListingError, describe, endpoint_from, endpoints_from
from svcmesh.discovery.names import quote_name, unquote_name
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, no_query

Listing = tuple[Endpoint, ...] | Mapping[str, tuple[Endpoint, ...] | Snapshot]
"""What a file says: one list for whoever asks, or by service a list, or a list and a policy."""

REMEMBERED = 64
"""Files whose last content is remembered while nobody watches them: a broken one is asked for again and again."""


class FileDiscovery:
    """Endpoints of a file: a list for whoever asks, or a mapping from service name to list.

    Args:
        path: absolute; ``{service}`` in it stands for the (quoted) name of the service.
        clock: what the watch waits by.
        emit: told, once per content, of ``config.reloaded`` and, where it is wrong, of ``config.warning``.
        parse: what makes endpoints of content and path, where the file is in another format; may run on any thread.

    An empty list is believed at once. A service that a mapping does not have is one without endpoints.

    Cost: 25 looks a second for all services of a file, three at a file that is one service's own; and, per content, one
    parse. That takes up to 3 s per MiB of YAML, 1 s per MiB of JSON; more than 32 KiB are parsed on a thread that ends
    with it, so that heartbeats go on meanwhile.

    Source: Envoy's filesystem subscriptions; style of errors from Prometheus' file_sd.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        emit: Emit = silent,
        parse: Callable[[bytes, str], Listing] | None = None,
    ) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._emit = emit
        self._mapped: tuple[str, ...] = ()
        self._documents: WeakValueDictionary[str, WatchedFile[Listing]] = WeakValueDictionary()
        self._remembered: LRUCache[str, WatchedFile[Listing]] = LRUCache(REMEMBERED)

    @property
    def names(self) -> tuple[str, ...]:
        """The services that the file maps to lists, once it has been read; or those that there are files for."""
        if "{service}" not in self._path:
            return self._mapped
        pattern = "*".join(map(glob.escape, self._path.split("{service}")))
        before, after = len(pattern.partition("*")[0]), len(pattern.rpartition("*")[2])
        found = (unquote_name(path[before : len(path) - after]) for path in glob.iglob(pattern))  # noqa: PTH207 - text
        return tuple(name for name in found if name is not None)

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service`` at once, and again when the content of the file is another.

        Raises:
            DiscoveryError: the file is missing or wrong; the message has its path, the line and the field.
        """
        path, every = self._path, POLL
        if "{service}" in path:
            every = SELDOM
            path = path.replace("{service}", quote_name("service", service))
        document = self._documents.get(path)
        if document is None:
            known = Known()
            parse = partial(decode, known=known) if self._parse is None else self._parse
            document = self._documents[path] = WatchedFile(path, parse, self._clock, self._emit, every)
        self._remembered[path] = document
        version = 0
        while True:
            version, listing = await document.after(version)
            self._mapped = tuple(listing) if isinstance(listing, Mapping) else ()
            yield select(listing, service)


def decode(content: bytes, path: str, known: Known | None = None) -> Listing:
    """Return all endpoints in a file's content.

    Args:
        content: of the file. path: its name. known: endpoints from before, to be used again; brought up to date.

    Raises:
        DiscoveryError: the first mistake, wherever in the file it stands, with path, line and field.
    """
    text = text_of(content, path)
    document = _in_json(text, path, known) if path.endswith(".json") else parse_document(text, path, is_json=False)
    try:
        return _listing(document)
    except ListingError as error:
        line_number = line_of(text, error.path)
        line_text = "" if line_number is None else f", line {line_number}"
        field = describe(error.path)
        raise DiscoveryError(f"{path}{line_text}{', ' + field if field else ''}: {error}") from None


def _in_json(text: str, path: str, known: Known | None) -> Any:
    """Return what is in a file, with endpoints already where they are right; where one is wrong, as it stands there."""
    to_list = () if text.lstrip().startswith("[") else (None,)
    try:
        return read_elements(text, endpoint_from, to_list, known, STRICT_JSON)
    except (ValueError, RecursionError):  # ConfigError is one
        return parse_document(text, path, is_json=True)


def path_of(uri: Uri) -> str:
    """Return the path that a URI means; it may hold ``{service}``.

    Raises:
        ConfigError: it is not absolute, or there is a query.
    """
    no_query(uri)
    if uri.authority not in {"", "localhost"} or uri.path.endswith("/") or not uri.path.startswith("/"):
        raise ConfigError(
            f"{uri.text!r}: write the absolute path of a file after three slashes, as in {uri.scheme}:///etc/mesh.yaml"
        )
    path = decoded(uri, uri.path)
    if set("{}") & set(path.replace(SERVICE, "")):
        raise ConfigError(f"{uri.text!r}: the only thing that braces can hold is {SERVICE}")
    return path


def select(listing: Listing, service: str) -> Snapshot:
    """Return the endpoints of ``service``: all of a list, those under its name in a mapping."""
    found = listing.get(service, ()) if isinstance(listing, Mapping) else listing
    return found if isinstance(found, Snapshot) else Snapshot(found, authoritative=True)


def _listing(document: Any) -> Listing:
    if document is None:
        raise ListingError("the file is empty: write [] for no endpoints", ())
    if not isinstance(document, dict):
        return endpoints_from(document)
    services: dict[str, tuple[Endpoint, ...]] = {}
    for name, listed in document.items():
        if not isinstance(name, str):
            raise ListingError(f"a service name is text, not {name!r}: put it in quotes", (str(name),))
        services[name] = endpoints_from(listed, (name,))
    return services
