"""What a cache on disk says of one service, as bytes. Pure: no file, no clock.

Endpoints stand in it as people list them in files (`svcmesh.discovery.listing`), one a line, so that somebody who looks
into it at night can read it. It is read back as strictly as anything that is found on a disk.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from svcmesh.core import checks
from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.documents import parse_document
from svcmesh.discovery.listing import LARGEST_METADATA, endpoints_from
from svcmesh.discovery.names import quote_name

SCHEMA = 1
"""The form of a file; one of another form is no file to us."""

LARGEST = 16 * 1024 * 1024
"""Bytes that a file may have: some 80,000 endpoints."""

_KEYS = ("schema", "service", "source", "saved", "endpoints")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a file is about: a service, and who was asked for it, as `svcmesh.discovery.opened` knows them apart."""

    service: str
    source: str

    @property
    def mark(self) -> str:
        """The source as a hash: it may be long, and need not be read by anybody."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def file_name(self) -> str:
        """The name of its file; other services, and the same of other sources, have others.

        Raises:
            ConfigError: the service cannot be the name of a file: it is too long, or no valid Unicode.
        """
        return f"{quote_name('service', self.service)}.{self.mark}.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file says: who was there, and when that was known, in seconds of the wall clock since 1970."""

    snapshot: Snapshot
    at: float


def encode(subject: Subject, saved_at: float, endpoints: Iterable[Endpoint]) -> bytes:
    """Return the content of a file. What JSON cannot hold of an endpoint's metadata is left out.

    Cost: 20 µs an endpoint, and the interpreter is let go between two of them.
    """
    head = {"schema": SCHEMA, "service": subject.service, "source": subject.mark, "saved": saved_at}
    lines = ",\n".join([json.dumps(_listed(endpoint), allow_nan=False) for endpoint in endpoints])
    return f'{json.dumps(head)[:-1]}, "endpoints": [\n{lines}\n]}}\n'.encode("ascii")


def decode(content: bytes, where: str, subject: Subject) -> Saved:
    """Return what a file says about ``subject``; ``where`` is what errors call it.

    Raises:
        DiscoveryError: it is larger than `LARGEST`, damaged, of another form, or about something else.
    """
    if len(content) > LARGEST:
        raise DiscoveryError(f"{where} is larger than {LARGEST} bytes")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise DiscoveryError(f"{where} is damaged: byte {error.start} is not ASCII") from None
    document = parse_document(text, where, is_json=True)
    if not isinstance(document, dict) or set(document) != set(_KEYS):
        raise DiscoveryError(f"{where} is no cache: expected an object with {', '.join(_KEYS)}")
    if document["schema"] != SCHEMA:
        raise DiscoveryError(f"{where} has the form {document['schema']!r}; this version reads {SCHEMA}")
    if (document["service"], document["source"]) != (subject.service, subject.mark):
        raise DiscoveryError(f"{where} is about another service, or of another registry")
    try:
        return Saved(Snapshot(endpoints_from(document["endpoints"])), checks.number("saved", document["saved"]))
    except ConfigError as error:
        raise DiscoveryError(f"{where}: {error}") from None


def _listed(endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint as `endpoints_from` reads it, without what is as usual."""
    found: dict[str, Any] = {"address": endpoint.address}
    if endpoint.weight != 1:
        found["weight"] = endpoint.weight
    if endpoint.priority:
        found["priority"] = endpoint.priority
    if endpoint.health is not Health.HEALTHY:
        found["health"] = endpoint.health.value
    if endpoint.locality is not None:
        found["locality"] = asdict(endpoint.locality)
    metadata = _metadata(endpoint.metadata)
    if metadata:
        found["metadata"] = metadata
    return found


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be read back: a backend may put anything there, and one odd value must not cost the file."""
    left = LARGEST_METADATA - 1
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        plain, size = value, 1
        if not (value is None or isinstance(value, str | bool) or (isinstance(value, float) and math.isfinite(value))):
            try:
                text = json.dumps(value, allow_nan=False)
                plain = json.loads(text)
            except (TypeError, ValueError, RecursionError):
                continue
            size += text.count(",") + text.count("[") + text.count("{")  # at least as many as it holds values
        if size <= left:
            left -= size
            found[key] = plain
    return found
