"""What is needed and what is known, for all services of a mesh: who needs which resource, and what each of them is.

Several services share routes and clusters. A resource is subscribed to while anybody's way leads through it, and
forgotten with the last one; when it changes, those who need it follow their way anew, and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.path import Known, Path, path_of
from svcmesh.discovery.xds.resources import Resource


class Tree:
    """Resources, and the ways through them.

    Args:
        first: the kind of resource at which the ways of services begin. called: what that of a service is called.
    """

    def __init__(self, first: Kind, called: Callable[[str], str] = str) -> None:
        self._first = first
        self._called = called
        self._known: dict[Key, Known] = {}
        self._users: dict[Key, set[str]] = {}
        self._unused: set[Key] = set()
        self._paths: dict[str, Path] = {}
        self._wanted: dict[Kind, set[str]] = {kind: set() for kind in Kind}

    def __contains__(self, name: str) -> bool:
        """Whether the way of a service is followed."""
        return name in self._paths

    def path(self, name: str) -> Path:
        """Return the way of a service that was added."""
        return self._paths[name]

    def wanted(self, kind: Kind) -> Collection[str]:
        """Return the names of all resources of a kind that are needed."""
        return self._wanted[kind]

    def waits_for(self, key: Key) -> bool:
        """Whether a resource is needed, and nothing is known of it."""
        known = self._known.get(key)
        return known is not None and not known.settled

    def add(self, name: str) -> list[Key]:
        """Follow the way of a service; return what is needed newly."""
        return self._follow(name)

    def remove(self, name: str) -> None:
        """Follow the way of a service no more."""
        self._release(name, self._paths.pop(name).keys)

    def put(self, key: Key, resource: Resource) -> bool:
        """Take a good resource, and return whether it is another one. One that nobody needs is not kept."""
        known = self._known.get(key)
        if known is None or (known.resource is resource and not known.why):
            return False
        self._known[key] = Known(resource)
        return True

    def refuse(self, key: Key, why: str) -> bool:
        """Take note that a resource is none, and return whether that is new; the last good one stays."""
        known = self._known.get(key)
        if known is None or known.why == why:
            return False
        self._known[key] = Known(known.resource, why)
        return True

    def lose(self, key: Key) -> bool:
        """Take note that a resource does not exist, and return whether that is new."""
        known = self._known.get(key)
        if known is None or known.absent:
            return False
        self._known[key] = Known(absent=True)
        return True

    def settled(self, kind: Kind) -> list[str]:
        """Return the names of a kind's resources that exist, good or not."""
        there = [key for key, known in self._known.items() if known.settled and not known.absent]
        return [key.name for key in there if key.kind is kind]

    def follow(self, changed: Iterable[Key]) -> tuple[set[str], list[Key]]:
        """Follow all ways through ``changed`` anew; return whose they are, and what is needed newly."""
        names = {name for key in changed for name in self._users.get(key, ())}
        return names, [key for name in names for key in self._follow(name)]

    def forget(self, kind: Kind) -> None:
        """Forget what nobody needs any more. What is needed again before that was never away.

        Called when the control plane is told: until then it takes such a resource for known, and would not send it.
        """
        for key in [key for key in self._unused if key.kind is kind]:
            self._unused.discard(key)
            del self._known[key]

    def _follow(self, name: str) -> list[Key]:
        before = self._paths.get(name)
        path = self._paths[name] = path_of(Key(self._first, self._called(name)), self._known.get, name)
        new = [key for key in dict.fromkeys(path.keys) if key not in self._known]
        for key in path.keys:
            self._known.setdefault(key, Known())
            self._unused.discard(key)
            self._users.setdefault(key, set()).add(name)
            self._wanted[key.kind].add(key.name)
        if before is not None:
            self._release(name, set(before.keys).difference(path.keys))
        return new

    def _release(self, name: str, keys: Iterable[Key]) -> None:
        for key in set(keys):
            users = self._users[key]
            users.discard(name)
            if not users:
                del self._users[key]
                self._unused.add(key)
                self._wanted[key.kind].discard(key.name)
