"""What svcmesh gives to the tests of its users: time under control, registries that fail on command.

Nothing in the library imports this room.
"""

from __future__ import annotations

from svcmesh.testing.conformance import DiscoveryConformance
from svcmesh.testing.consul import FakeConsul
from svcmesh.testing.fake_clock import FakeClock

__all__ = ["DiscoveryConformance", "FakeClock", "FakeConsul"]
