"""What discovery knows of one service at one moment: immutable, replaced as a whole, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError


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
    """

    endpoints: tuple[Endpoint, ...]
    version: str | int | None = None
    policy: Any = None
    authoritative: bool = False

    def __post_init__(self) -> None:
        """Make the list a tuple, and refuse duplicates: two answers for one address cannot both hold."""
        if isinstance(self.endpoints, str | bytes) or not isinstance(self.endpoints, Iterable):
            raise ConfigError(f"a snapshot holds Endpoint objects, not {self.endpoints!r}")
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        seen: set[str] = set()
        for endpoint in self.endpoints:
            if not isinstance(endpoint, Endpoint):
                raise ConfigError(f"a snapshot holds Endpoint objects, not {endpoint!r}")
            if endpoint.address in seen:
                raise ConfigError(f"address {endpoint.address!r} is listed twice in one snapshot")
            seen.add(endpoint.address)


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
    """Compare two sets of endpoints by address; the order of a list is no change.

    Cost: O(n); an endpoint that is the very same object in both takes a tenth of one that is only equal.
    """
    before = {endpoint.address: endpoint for endpoint in old}
    after = {endpoint.address: endpoint for endpoint in new}
    added, changed = [], []
    for address, endpoint in after.items():
        known = before.get(address)
        if known is None:
            added.append(endpoint)
        elif known is not endpoint and known != endpoint:
            changed.append(endpoint)
    removed = [endpoint for address, endpoint in before.items() if address not in after]
    return Difference(tuple(added), tuple(removed), tuple(changed))


def sharing(old: Snapshot, new: Snapshot) -> Snapshot:
    """Return ``new`` with the very objects of ``old`` where these are equal.

    A backend decodes every endpoint anew at each change. What is compared here once need not be compared again by all
    who come later, and old objects are where the processor's caches know them.
    """
    known = {endpoint.address: endpoint for endpoint in old.endpoints}
    before = [known.get(endpoint.address, endpoint) for endpoint in new.endpoints]
    same = [was if was is now or was == now else now for was, now in zip(before, new.endpoints, strict=True)]
    shared = copy(new)  # checked already, and so not made anew
    object.__setattr__(shared, "endpoints", tuple(same))
    return shared
