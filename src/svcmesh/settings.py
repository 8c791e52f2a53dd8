"""What a mesh is made of, checked before anything starts: otherwise a wrong clock would show in the worker alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.opened import Opened, opened
from svcmesh.discovery.overrides import overrides
from svcmesh.discovery.uri import open_discovery
from svcmesh.policy.policy import Policy, check_policy

ServiceSettings = Policy | tuple[str, Policy]


Settings = dict[str, tuple[Opened | None, Policy | None]]
"""A discovery of its own or None, and a policy or None, by the name of a service."""


def read_settings(services: Mapping[str, ServiceSettings] | None, *, clock: Clock, emit: Emit) -> Settings:
    """Return what ``Mesh(services=…)`` says, and where the environment sends single services (`overrides`).

    Raises:
        ConfigError: no mapping, a name that is empty or no string, a value that is neither a Policy nor (uri, Policy),
            a bad URI; a variable that cannot be understood.
    """
    settings = _given(services, clock=clock, emit=emit)
    for name, discovery in overrides(os.environ, lambda uri: open_discovery(uri, clock=clock, emit=emit)).items():
        settings[name] = Opened(discovery, None), settings.get(name, (None, None))[1]  # a developer is there to see it
    return settings


def _given(services: Mapping[str, ServiceSettings] | None, *, clock: Clock, emit: Emit) -> Settings:
    if not isinstance(services, Mapping | None):
        raise ConfigError(f"services must be a mapping of names to a Policy or (uri, Policy), not {services!r}")
    settings: Settings = {}
    for name, given in (services or {}).items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"services: a name must be a non-empty string, not {name!r}")
        if isinstance(given, Policy):
            settings[name] = None, given
        elif isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
            settings[name] = opened(given[0], clock=clock, emit=emit), check_policy(given[1])
        else:
            raise ConfigError(f"services[{name!r}] must be a Policy or (uri, Policy), not {given!r}")
    return settings


def check_clock_and_rng(clock: Any, rng: Any) -> None:
    """Refuse what is neither None nor a clock, a source of chance.

    Raises:
        ConfigError: a method is missing, or it is a class.
    """
    _has("clock", clock, "now", "wait", "call_at")
    _has("rng", rng, "random")


def _has(field: str, value: Any, *methods: str) -> None:
    if value is None:
        return
    missing = [name for name in methods if not callable(getattr(value, name, None))]
    if isinstance(value, type) or missing:
        needed = ", ".join(f"{name}()" for name in methods)
        raise ConfigError(f"{field} must be an object with {needed}, not {value!r}")
