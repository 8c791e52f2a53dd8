"""A Consul for tests: a real HTTP server with Consul's semantics, its clock and its faults in the test's hands."""

from __future__ import annotations

from svcmesh.testing.consul.fake import FakeConsul

__all__ = ["FakeConsul"]
