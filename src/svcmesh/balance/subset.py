"""Calls for some of the endpoints, told by their metadata: a version, a stage, a tenant.

Endpoints of one service may differ in what they run. A caller that needs one kind says so by what their metadata must
have, and says beforehand who may take its calls where nobody has it: nobody, anybody, or another kind.

Source: Envoy, subsets.rst and subset_lb.cc. There criteria come with the route; here a service has as many policies as
its callers have needs (`Service.with_policy`), and each has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from svcmesh.balance.cell import Cell
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.picker import LoadBalancer, Picker, Rng
from svcmesh.balance.subset_selector import FALLBACKS, KEYS_SUBSET, SubsetSelector
from svcmesh.balance.wrapping import Wrapping
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.errors import ConfigError

Criteria = Mapping[str, Any] | Iterable[tuple[str, Any]]

C = TypeVar("C", bound=Cell)


@dataclass(frozen=True)
class Subset(Wrapping):
    """``child_policy`` over the endpoints whose metadata have certain values.

    Args:
        metadata_match: values by name; an endpoint must have all of them, equal ones. Only the outermost level of its
            metadata is looked at.
        child_policy: who chooses among them; default `LeastRequest`.
        fallback_policy: where no endpoint has them: ``"NO_FALLBACK"`` (default) for nobody, ``"ANY_ENDPOINT"`` for all,
            ``"DEFAULT_SUBSET"`` for those that have ``default_subset``, and nobody where there are none.
        default_subset: values by name, for that fallback only.
        subset_selectors: other fallbacks, by the names in ``metadata_match`` and in what is left of it; one
            `SubsetSelector` for each set of names. Default none: ``fallback_policy`` it is.
        list_as_any: an endpoint whose metadata have a list, such as Consul's ``tags``, has each value in it; default
            False: the list is one value, equal to a tuple of the same.

    In a mesh priorities, panic and localities are worked out within the subset, so that what is well elsewhere does not
    count. Illness is no reason to fall back.

    Raises:
        ConfigError: no criteria, names that are no text, values that cannot be compared by hash, an unknown fallback, a
            ``default_subset`` without its fallback or that without it, selectors of the same names, or none of those in
            ``metadata_match``.

    Cost: building is O(n); a pick costs what that of ``child_policy`` does.
    """

    metadata_match: Criteria
    child_policy: LoadBalancer = field(default_factory=LeastRequest)
    fallback_policy: str = "NO_FALLBACK"
    default_subset: Criteria = ()
    subset_selectors: Iterable[SubsetSelector] = ()
    list_as_any: bool = False

    def __post_init__(self) -> None:
        """Check every field, and store criteria as pairs, which can be compared, hashed and pickled."""
        super().__post_init__()
        if self.fallback_policy not in FALLBACKS:
            raise ConfigError(f"fallback_policy must be one of {', '.join(FALLBACKS)}, not {self.fallback_policy!r}")
        for name in ("metadata_match", "default_subset"):
            object.__setattr__(self, name, _criteria(name, getattr(self, name)))
        checks.flag("list_as_any", self.list_as_any)
        if not self.metadata_match:
            raise ConfigError("metadata_match must have at least one value")
        object.__setattr__(self, "subset_selectors", _selectors(self.subset_selectors))
        fallbacks = [self.fallback_policy, *(selector.fallback_policy for selector in self.subset_selectors)]
        if ("DEFAULT_SUBSET" in fallbacks) != bool(self.default_subset):
            raise ConfigError("default_subset and the fallback_policy DEFAULT_SUBSET need each other")
        if self.subset_selectors and not self._looks()[0]:
            names = sorted(dict(self.metadata_match))
            raise ConfigError(
                f"subset_selectors: none has just the names of metadata_match, {names}: nobody would match"
            )

    def __str__(self) -> str:
        """Return what endpoints must have, for errors."""
        looks, fallback = self._looks()
        return " or ".join(map(str, [*looks, *([dict(self.default_subset)] if fallback == "DEFAULT_SUBSET" else [])]))

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        return self.child_policy.over(self.members(cells), rng, clock)

    def members(self, cells: Sequence[C]) -> Sequence[C]:
        """Return those of the cells that calls may go to."""
        looks, fallback = self._looks()
        for wanted in looks:
            found = self._matching(cells, wanted)
            if found:
                return found
        if fallback == "ANY_ENDPOINT":
            return cells
        return self._matching(cells, dict(self.default_subset)) if fallback == "DEFAULT_SUBSET" else []

    def _looks(self) -> tuple[list[dict[str, Any]], str]:
        """Return what is looked for, one after the other until somebody has it, and what follows where nobody does."""
        wanted = dict(self.metadata_match)
        if not self.subset_selectors:
            return [wanted], self.fallback_policy
        looks: list[dict[str, Any]] = []
        selector = self._selector(wanted)
        while selector is not None:
            looks.append(wanted)
            if selector.fallback_policy != KEYS_SUBSET:
                return looks, selector.fallback_policy or self.fallback_policy
            wanted = {name: wanted[name] for name in sorted(selector.fallback_keys_subset)}
            selector = self._selector(wanted)
        return looks, self.fallback_policy

    def _selector(self, wanted: Mapping[str, Any]) -> SubsetSelector | None:
        return next((selector for selector in self.subset_selectors if selector.keys == wanted.keys()), None)

    def _matching(self, cells: Sequence[C], wanted: Mapping[str, Any]) -> list[C]:
        return [cell for cell in cells if all(self._has(cell.endpoint.metadata, name, wanted[name]) for name in wanted)]

    def _has(self, metadata: Mapping[str, Any], name: str, value: object) -> bool:
        """Return whether one has this value."""
        if name not in metadata:
            return False
        found = metadata[name]
        if self.list_as_any and isinstance(found, list | tuple):
            return any(_is(each, value) for each in found)
        return _is(found, value)


def _is(found: object, value: object) -> bool:
    """Return whether they are the same; a flag is no number, as in Envoy, though in Python True is 1."""
    if isinstance(found, list):
        found = tuple(found)  # which a criterion must be, to have a hash
    return bool(found == value) and isinstance(found, bool) is isinstance(value, bool)


def _selectors(given: Any) -> tuple[SubsetSelector, ...]:
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    found: tuple[SubsetSelector, ...] = tuple(given) if several else ()
    if not several or not all(isinstance(selector, SubsetSelector) for selector in found):
        raise ConfigError(f"subset_selectors must be several SubsetSelector, not {given!r}")
    for number, selector in enumerate(found):
        if selector.keys in [other.keys for other in found[:number]]:
            raise ConfigError(f"subset_selectors: there are two for the names {sorted(selector.keys)}")
    return found


def _criteria(field: str, given: Criteria) -> tuple[tuple[str, Any], ...]:
    found = checks.pairs(field, given, "values by name")
    for name, value in found:
        if not isinstance(name, str):
            raise ConfigError(f"{field}: names are texts, not {name!r}")
        try:
            hash(value)
        except TypeError:
            raise ConfigError(f"{field}: the value of {name!r} must be one that has a hash, not {value!r}") from None
    return found
