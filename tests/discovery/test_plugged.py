"""Backends of other packages, by entry points, as an installed package has them."""

from __future__ import annotations

import sys

import pytest

import svcmesh
from svcmesh.core.errors import ConfigError

MODULE = """
from svcmesh.discovery import poll
from svcmesh.discovery.static import StaticDiscovery

seen = []

def open(uri):
    seen.append(uri)
    return StaticDiscovery(["10.0.0.1:80"])

def polled(uri):
    return poll(lambda service: [f"{service}:80"], 60.0)

def nothing(uri):
    return object()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package which brings schemes."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(package, module=MODULE, **schemes):
        (tmp_path / f"{package}.py").write_text(module)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{scheme} = {package}:{name}" for scheme, name in schemes.items())
        (info / "entry_points.txt").write_text(f"[svcmesh.discovery]\n{lines}\n")

    yield installed
    for name in ("mesh_zk", "mesh_other"):
        sys.modules.pop(name, None)


def test_a_package_brings_a_scheme(install):
    install("mesh_zk", zk="open")
    with svcmesh.Mesh("ZK://secret@h:1/{service}?a=b%20c") as mesh:
        assert mesh.service("orders").endpoints[0].address == "10.0.0.1:80"

    assert sys.modules["mesh_zk"].seen == ["zk://secret@h:1/{service}?a=b%20c"]


def test_it_may_be_a_function_that_is_polled(install):
    install("mesh_zk", zk="polled")
    with svcmesh.Mesh("zk://") as mesh:
        mesh.service("orders").wait_ready(10)
        assert mesh.service("orders").endpoints[0].address == "orders:80"


def test_a_uri_with_a_path_is_a_service_and_one_without_a_registry(install):
    install("mesh_zk", zk="open")
    with svcmesh.Mesh({}) as mesh:
        assert len(mesh.service("zk://h:1/orders").endpoints) == 1
        with pytest.raises(ConfigError, match="names a registry"):
            mesh.service("zk://h:1/")


def test_what_it_opens_must_be_a_discovery(install):
    install("mesh_zk", zk="nothing")
    with pytest.raises(ConfigError, match=r"mesh_zk opened 'zk://.*which has no watch\(service\)"):
        svcmesh.Mesh("zk://")


@pytest.mark.parametrize("module", ["import no_such_module", "raise RuntimeError('broken')", ""])
def test_a_package_that_cannot_be_loaded_is_named(install, module):
    install("mesh_zk", module, zk="open")
    with pytest.raises(ConfigError, match="mesh_zk, which cannot be loaded"):
        svcmesh.Mesh("zk://")


def test_two_packages_cannot_bring_one_scheme(install):
    install("mesh_zk", zk="open")
    install("mesh_other", zk="polled")
    with pytest.raises(ConfigError, match="mesh_other and mesh_zk: uninstall"):
        svcmesh.Mesh("zk://")


def test_our_own_schemes_are_nobody_elses(install):
    install("mesh_zk", static="nothing")
    with svcmesh.Mesh("static://a:1") as mesh:
        assert len(mesh.service("orders").endpoints) == 1
