"""What an API server knows: slices, and for a while the changes that led there. Threads: any."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

LABEL = "kubernetes.io/service-name"
_STEP = 7  # the version is the cluster's: most changes are of something else


class Change(NamedTuple):
    """One change: what was there before and after it."""

    version: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Store:
    """Slices by namespace and name, their history, and a condition that is notified of changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 812_345
        self.oldest = self.version
        self._slices: dict[tuple[str, str], dict[str, Any]] = {}
        self._changes: list[Change] = []
        self._pages: dict[str, list[dict[str, Any]]] = {}

    def put(self, found: dict[str, Any]) -> None:
        """Add a slice, or replace it."""
        meta = found["metadata"]
        self._change((meta["namespace"], meta["name"]), found)

    def delete(self, namespace: str, name: str) -> None:
        """Take a slice away, if it is there."""
        with self.changed:
            if (namespace, name) in self._slices:
                self._change((namespace, name), None)

    def compact(self) -> None:
        """Forget the history, and every list that has been begun."""
        with self.changed:
            self.version += _STEP
            self.oldest = self.version
            self._changes.clear()
            self._pages.clear()
            self.changed.notify_all()

    def bump(self) -> None:
        """Let something else in the cluster change."""
        with self.changed:
            self.version += _STEP
            self.changed.notify_all()

    def names(self, namespace: str, service: str) -> list[str]:
        """Return the names of a service's slices."""
        with self.changed:
            return [name for (where, name), one in self._slices.items() if where == namespace and _is_of(one, service)]

    def listed(self, namespace: str, service: str | None) -> tuple[int, list[dict[str, Any]]]:
        """Return the version and the slices of a service (None: of any)."""
        with self.changed:
            found = [one for key, one in sorted(self._slices.items()) if key[0] == namespace and _is_of(one, service)]
            return self.version, found

    def keep(self, token: str, rest: list[dict[str, Any]]) -> None:
        """Keep the rest of a list until it is asked for."""
        with self.changed:
            self._pages[token] = rest

    def kept(self, token: str) -> list[dict[str, Any]] | None:
        """Return the rest of a list; None if it is forgotten."""
        with self.changed:
            return self._pages.get(token)

    def since(self, version: int, namespace: str, service: str | None) -> tuple[int, list[tuple[str, dict[str, Any]]]]:
        """Return the version, and events for what has changed since ``version``; `changed` must be held."""
        events: list[tuple[str, dict[str, Any]]] = []
        for change in self._changes:
            before, after = (
                one if one is not None and one["metadata"]["namespace"] == namespace and _is_of(one, service) else None
                for one in (change.before, change.after)
            )
            if change.version > version and (before or after):
                kind = "DELETED" if after is None else "ADDED" if before is None else "MODIFIED"
                events.append((kind, _at(after or before, change.version)))
        return self.version, events

    def _change(self, key: tuple[str, str], after: dict[str, Any] | None) -> None:
        with self.changed:
            self.version += _STEP
            before = self._slices.pop(key, None)
            if after is not None:
                after = self._slices[key] = _at(after, self.version)
            self._changes.append(Change(self.version, before, after))
            self.changed.notify_all()


def _is_of(one: dict[str, Any], service: str | None) -> bool:
    label = one["metadata"]["labels"].get(LABEL)
    return label is not None and service in {None, label}


def _at(one: dict[str, Any] | None, version: int) -> dict[str, Any]:
    assert one is not None
    return one | {"metadata": one["metadata"] | {"resourceVersion": str(version)}}
