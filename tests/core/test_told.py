"""What an event says of an error."""

from __future__ import annotations

from svcmesh.core.errors import DiscoveryError
from svcmesh.core.told import LONGEST, told


def test_ours_reads_as_it_stands_and_a_strangers_has_its_class():
    assert told(DiscoveryError("nobody answers")) == "nobody answers"
    assert told(OSError("gone")) == "OSError: gone"


def test_a_text_without_end_is_cut():
    assert told(OSError("x" * 10_000_000)) == "OSError: " + "x" * (LONGEST - 10) + "…"
    assert len(told(DiscoveryError("x" * LONGEST))) == LONGEST
