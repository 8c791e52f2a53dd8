"""What pyproject.toml asks for is all that we import, and its lowest versions are those that the tests run on."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, canonicalize_version

ROOT = Path(__file__).parents[1]
BROUGHT_BY_USERS = {"httpx2"}
"""We work with their clients of it, and import it only when there is one."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def required() -> dict[str, Requirement]:
    """Return what the package and its extras need, by name."""
    lines = [
        *project()["dependencies"],
        *(line for extra in project()["optional-dependencies"].values() for line in extra),
    ]
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


def pinned(file: str) -> dict[str, str]:
    """Return the versions that a list of ours names."""
    lines = (line for line in (ROOT / "requirements" / file).read_text().splitlines() if "==" in line)
    return {canonicalize_name(found.name): version_of(found) for found in map(Requirement, lines)}


def version_of(requirement: Requirement) -> str:
    """Return the one version that it names, shortened: 5.3 is 5.3.0."""
    (specifier,) = requirement.specifier
    return canonicalize_version(specifier.version)


def imported() -> Iterator[str]:
    """Yield the top-level names of all modules that our code imports."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    """Who raises a bound raises it in requirements/lowest.txt, and has the suite pass on it, or the other way round."""
    tested = pinned("lowest.txt")
    lowest = {name: version_of(found) for name, found in required().items()}
    assert {name: tested.get(name) for name in lowest} == lowest


def test_what_is_pinned_for_developers_is_allowed() -> None:
    """All of it is there, and new enough."""
    frozen = pinned("dev.txt")
    assert [name for name, found in required().items() if frozen.get(name, "0") not in found.specifier] == []


def test_whatever_is_imported_is_asked_for() -> None:
    """A library that only another library brings along is gone the day that one does without it."""
    names = set(imported()) - sys.stdlib_module_names - BROUGHT_BY_USERS - {"svcmesh"}
    found = packages_distributions()
    bringing = {name: {canonicalize_name(one) for one in found.get(name, [])} for name in names}
    unasked = {name for name, packages in bringing.items() if not packages & required().keys()}
    assert unasked == set()
