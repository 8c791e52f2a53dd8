"""What discovery knows of one service at one moment: immutable, replaced as a whole, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError

_USUAL = frozenset({Endpoint})


@dataclass(frozen=True)
class Snapshot:
    """The endpoints of a service.

    Args:
        endpoints: all that the registry lists, unhealthy ones included; several with one address are an error.
        version: the registry's own mark of this state (an index, a revision), for logs and resuming.
        policy: what the registry says of how to call them: a `Policy`, or a dict of some of its fields, which are laid
            over the service's; None: nothing. What the program itself says of the service counts more.
        authoritative: an empty list is believed at once, because the source cannot mistake a failure for
            emptiness (a directory it read, a list it was given). Others are held back by the engine.
        ordered: the order of ``endpoints`` says something (the nearest first), so that another one is news by itself.
    """

    endpoints: tuple[Endpoint, ...]
    version: str | int | None = None
    policy: Any = None
    authoritative: bool = False
    ordered: bool = False

    def __post_init__(self) -> None:
        """Make the list a tuple, and refuse duplicates: two answers for one address cannot both hold."""
        if isinstance(self.endpoints, str | bytes) or not isinstance(self.endpoints, Iterable):
            raise ConfigError(f"a snapshot holds Endpoint objects, not {self.endpoints!r}")
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        if _USUAL.issuperset(map(type, self.endpoints)) and len(_addresses(self.endpoints)) == len(self.endpoints):
            return  # asked of all at once, for there may be thousands; what is wrong is looked for one by one
        seen: set[str] = set()
        for endpoint in self.endpoints:
            if not isinstance(endpoint, Endpoint):
                raise ConfigError(f"a snapshot holds Endpoint objects, not {endpoint!r}")
            if endpoint.address in seen:
                raise ConfigError(f"address {endpoint.address!r} is listed twice in one snapshot")
            seen.add(endpoint.address)


def _addresses(endpoints: Iterable[Endpoint]) -> set[str]:
    return {endpoint.address for endpoint in endpoints}


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one set of endpoints to the next, by address."""

    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    changed: tuple[Endpoint, ...]

    def __bool__(self) -> bool:
        """Whether anything changed at all."""
        return bool(self.added or self.removed or self.changed)


def difference(old: Iterable[Endpoint], new: Iterable[Endpoint]) -> Difference:
    """Compare two sets of endpoints by address, each of which is in a set once; the order of a list is no difference.

    Cost: O(n); an endpoint that is the very same object in both takes a tenth of one that is only equal.
    """
    return _compared(old, new)[0]


def sharing(old: Snapshot, new: Snapshot) -> tuple[Snapshot, Difference]:
    """Return ``new`` with the very objects of ``old`` where these are equal, and what has changed.

    A backend decodes every endpoint anew at each change. What is compared here once need not be compared again by all
    who come later, and old objects are where the processor's caches know them.
    """
    change, equal = _compared(old.endpoints, new.endpoints)
    if not equal:
        return new, change
    shared = copy(new)  # checked already, and so not made anew
    object.__setattr__(shared, "endpoints", tuple([equal.get(id(endpoint), endpoint) for endpoint in new.endpoints]))
    return shared, change


def _compared(old: Iterable[Endpoint], new: Iterable[Endpoint]) -> tuple[Difference, dict[int, Endpoint]]:
    """Return what has changed, and who of ``old`` is equal to one of ``new`` that is another object, by its `id`."""
    left = {endpoint.address: endpoint for endpoint in old}
    added, changed = [], []
    equal: dict[int, Endpoint] = {}
    for endpoint in new:
        known = left.pop(endpoint.address, None)
        if known is endpoint:
            continue
        if known is None:
            added.append(endpoint)
        elif known == endpoint:
            equal[id(endpoint)] = known
        else:
            changed.append(endpoint)
    return Difference(tuple(added), tuple(left.values()), tuple(changed)), equal
