"""Answers of the API server, decoded: a page of a list, and the lines of a watch."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known, read_elements
from svcmesh.discovery.kubernetes.errors import error_in
from svcmesh.discovery.kubernetes.slices import Slice, mapping, shown, slice_of, text


class Page(NamedTuple):
    """A page of a list. ``version``: the state that it shows. ``more``: what asks for the next page, or ""."""

    slices: tuple[Slice, ...]
    version: str
    more: str


class Event(NamedTuple):
    """What a line of a watch says. ``slice``: None of a bookmark, which only moves the ``version``."""

    slice: Slice | None
    version: str
    deleted: bool = False


def decode_page(body: bytes, known: Known | None = None) -> Page:
    """Return a page of a list of EndpointSlices.

    Args:
        body: the answer. known: the slices of the same page before, to be used again where they are the same.

    Raises:
        DiscoveryError: it is no such page.
    """
    answer = _json(body, "answer", partial(read_elements, each=slice_of, path=("items",), known=known))
    meta = mapping(answer, "metadata")
    version, more = text(meta, "resourceVersion"), text(meta, "continue")
    items = answer.get("items") if isinstance(answer, dict) else None
    if not version or not isinstance(items, list | None):
        raise DiscoveryError(f"the API server's answer is no list of EndpointSlices but {shown(answer)}")
    return Page(tuple(items or ()), version, more)


def decode_event(line: bytes, asked: str) -> Event:
    """Return what a line of a watch says; ``asked`` is what is watched, for errors.

    Raises:
        KubernetesError: it says that the watch is over. DiscoveryError: it is no such line.
    """
    found = _json(line, "line")
    kind, value = text(found, "type"), mapping(found, "object")
    if kind == "ERROR":
        raise error_in(value, asked=asked)
    if kind == "BOOKMARK":
        version = text(mapping(value, "metadata"), "resourceVersion")
        if not version:
            raise DiscoveryError("the API server sent a bookmark without version")
        return Event(None, version)
    if kind not in {"ADDED", "MODIFIED", "DELETED"}:
        raise DiscoveryError(f"the API server sent an event that nobody knows: {shown(found)} of type {kind[:40]!r}")
    one = slice_of(value)
    return Event(one, one.version, deleted=kind == "DELETED")


def _json(body: bytes, what: str, parse: Callable[[bytes], Any] = json.loads) -> Any:
    try:
        return parse(body)
    except (ValueError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]
        raise DiscoveryError(f"the API server's {what} of {len(body)} bytes is no JSON: {told}") from None
