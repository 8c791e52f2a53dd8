"""What can never end any more is counted no longer than until somebody looks."""

from __future__ import annotations

import gc

from svcmesh import Mesh
from svcmesh.engine.leftovers import Leftovers


class Noted:
    """Notes that count how often they were gone through."""

    looks = 0

    def settle(self) -> None:
        self.looks += 1


def test_all_notes_are_gone_through_as_long_as_somebody_has_them() -> None:
    """A channel that was dropped needs no goodbye."""
    leftovers = Leftovers()
    one, other = Noted(), Noted()
    for notes in (one, other):
        leftovers.add(notes)

    leftovers.settle()
    del one
    gc.collect()
    leftovers.settle()

    assert other.looks == 2


def test_whoever_looks_at_a_mesh_has_them_gone_through_before() -> None:
    """The state as a dict, and in words."""
    notes = Noted()
    with Mesh({"probe": ["127.0.0.1:1"]}) as mesh:
        mesh.service("probe").view.runtime.leftovers.add(notes)
        mesh.state()
        assert notes.looks == 1
        mesh.explain("probe")
        assert notes.looks == 2
