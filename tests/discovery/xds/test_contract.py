"""The suite for all backends, in both dialects, and by name of a listener, a cluster or the endpoints alone."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import DiscoveryConformance
from tests.servers.xds import resources


class _Xds(DiscoveryConformance):
    more = ""

    @pytest.fixture(autouse=True)
    def _served(self, plane, uri):
        self.plane = plane
        self.uri = f"{uri}&wait=1s{self.more}"

    def open(self):
        return open_discovery(self.uri, clock=SYSTEM, emit=silent, environ={})

    def put(self, service, addresses):
        self.plane.put(service, addresses)

    def test_names_that_nobody_means_well_are_harmless(self):
        """Nobody has to wait for each of them as long as for an honest one."""
        self.uri = self.uri.replace("wait=1s", "wait=100ms")
        super().test_names_that_nobody_means_well_are_harmless()

    def break_registry(self):
        self.plane.tell(status="INTERNAL")
        return True

    def mend_registry(self):
        self.plane.tell(status=None)


class TestXds(_Xds):
    """The state of the world."""


class TestXdsByChanges(_Xds):
    """Its changes."""

    more = "&delta"


class TestXdsEndpointsAlone(_Xds):
    """A control plane that has only endpoints, called as the service."""

    more = "&resource=endpoints"

    def put(self, service, addresses):
        assignment = resources.assignment(service, [resources.place(addresses)] if addresses else [])
        self.plane.serve({resources.ENDPOINTS: {service: assignment}})
