"""Which methods may be repeated although they may have been executed: ``Policy(idempotent=…)``."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from svcmesh.core.errors import ConfigError

_PATTERN = re.compile(r"/[^/\s*]+/([^/\s*]+|\*)")


def check_idempotent(idempotent: Any) -> bool | frozenset[str]:
    """Return a bool or a set of methods, checked.

    Raises:
        ConfigError: neither a bool nor a collection of ``/pkg.Service/Method`` and ``/pkg.Service/*``.
    """
    if isinstance(idempotent, bool):
        return idempotent
    if isinstance(idempotent, str | bytes) or not isinstance(idempotent, Collection):
        raise ConfigError(f"idempotent must be a bool or a set of methods, not {idempotent!r}")
    for method in idempotent:
        if not isinstance(method, str) or _PATTERN.fullmatch(method) is None:
            raise ConfigError(f"idempotent must hold '/pkg.Service/Method' or '/pkg.Service/*', not {method!r}")
    return frozenset(idempotent)


def is_listed(method: str, methods: Collection[str]) -> bool:
    """Return whether ``method`` is in ``methods``, by its name or with its whole service.  Cost: O(1) for a set."""
    return method in methods or f"{method.rpartition('/')[0]}/*" in methods
