"""The public names are a checked-in list, so that adding or losing one is a line in a diff that somebody reads."""

from __future__ import annotations

from pathlib import Path

import pytest

import svcmesh

NAMES = Path(__file__).with_name("public_names.txt")


def public_names() -> list[str]:
    """Return what svcmesh says is public, in the order of the list."""
    return sorted(getattr(svcmesh, "__all__", ()))


def test_public_names_are_those_of_the_list() -> None:
    """`svcmesh.__all__` is what tests/api/public_names.txt lists; change both, and the changelog, together."""
    assert public_names() == NAMES.read_text().split()


@pytest.mark.parametrize("name", NAMES.read_text().split() or ["__name__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """Each name can be imported; what is a class or a function has a docstring of its own."""
    found = getattr(svcmesh, name)

    assert not callable(found) or (found.__doc__ or "").strip()
