"""One control plane for the tests of a file, which each finds as if it had just been started."""

from __future__ import annotations

import pytest

from tests.servers.xds.control_plane import ControlPlane


@pytest.fixture(scope="module")
def _plane():
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def plane(_plane):
    _plane.clear()
    return _plane


@pytest.fixture
def uri(plane, tmp_path):
    """Return a URI that leads to the control plane, for a mesh."""
    return f"xds:///?bootstrap={plane.bootstrap(tmp_path / 'bootstrap.json')}"
