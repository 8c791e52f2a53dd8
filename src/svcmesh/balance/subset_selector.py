"""What a metadata subset falls back on, by the names of what is looked for: less and less, until somebody has it.

Of endpoints for version 2 in stage "prod" there may be none today. Those of version 2 anywhere may do, or those of that
stage of whatever version: which, a selector says for each set of names.

Source: Envoy, subsets.rst and `LbSubsetSelector`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from svcmesh.core.errors import ConfigError

FALLBACKS = ("NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET")
KEYS_SUBSET = "KEYS_SUBSET"


@dataclass(frozen=True)
class SubsetSelector:
    """What happens where no endpoint has values of certain names, whatever the values are.

    Args:
        keys: the names, at least one.
        fallback_policy: for criteria of just these names: one of those of `Subset`, or ``"KEYS_SUBSET"``: to look again
            with some of the names only. None (default): that of the `Subset`.
        fallback_keys_subset: which of the names, for ``"KEYS_SUBSET"``; not all of them. There should be a selector of
            just these, which says what happens where nobody has their values either. Without one it is not looked for
            them, and the fallback is that of the `Subset`, as in Envoy.

    Raises:
        ConfigError: no names, or others than texts, an unknown fallback, a ``fallback_keys_subset`` without
            ``"KEYS_SUBSET"`` or that without it, and one that is not a part of ``keys``.
    """

    keys: Iterable[str]
    fallback_policy: str | None = None
    fallback_keys_subset: Iterable[str] = ()

    def __post_init__(self) -> None:
        """Check every field, and store names as sets, since their order says nothing."""
        if self.fallback_policy not in (None, KEYS_SUBSET, *FALLBACKS):
            allowed = ", ".join((*FALLBACKS, KEYS_SUBSET))
            raise ConfigError(f"fallback_policy must be one of {allowed} or None, not {self.fallback_policy!r}")
        for name in ("keys", "fallback_keys_subset"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not self.keys:
            raise ConfigError("keys must have at least one name")
        if (self.fallback_policy == KEYS_SUBSET) != bool(self.fallback_keys_subset):
            raise ConfigError("fallback_keys_subset and the fallback_policy KEYS_SUBSET need each other")
        if not set(self.fallback_keys_subset) < set(self.keys):
            raise ConfigError(
                f"fallback_keys_subset must be some of the keys, not {sorted(self.fallback_keys_subset)} "
                f"of {sorted(self.keys)}"
            )


def _names(field: str, given: object) -> frozenset[str]:
    if not isinstance(given, str | bytes) and isinstance(given, Iterable):
        found = tuple(given)
        if all(isinstance(name, str) for name in found):
            return frozenset(found)
    raise ConfigError(f"{field} must be names, not {given!r}")
