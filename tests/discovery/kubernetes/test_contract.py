"""The suite for all backends, and what an API server does that it is held to: lists, pages, watches, bookmarks."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.discovery.kubernetes import backend
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import DiscoveryConformance
from tests.servers.kubernetes.server import ApiServer


class _Kubernetes(DiscoveryConformance):
    @pytest.fixture(autouse=True)
    def _server(self, tmp_path):
        with ApiServer() as self.api:
            self.uri = self.api.kubeconfig(tmp_path / "config")
            yield

    def open(self):
        return open_discovery(self.uri, clock=SYSTEM, emit=silent, environ={})

    def put(self, service, addresses):
        self.api.put(service, addresses)

    def break_registry(self):
        self.api.fault("500")
        return True

    def mend_registry(self):
        self.api.heal()


class TestKubernetes(_Kubernetes):
    """One watch for each service."""


class TestKubernetesTogether(_Kubernetes):
    """One watch of the namespace for all of them."""

    @pytest.fixture(autouse=True)
    def _together(self, monkeypatch):
        monkeypatch.setattr(backend, "MOST_SINGLE", 0)
