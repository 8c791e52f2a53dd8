"""The control plane ``sovereign`` (REST only), for tests: a real one that is not ours.

The program is what SVCMESH_TEST_SOVEREIGN names, or what PATH has; it wants an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.consul_agent import until
from tests.servers.ports import HeldPort

NO_SOVEREIGN = "no sovereign: set SVCMESH_TEST_SOVEREIGN to its path"

_CONFIG = """
sources: [{type: inline, config: {instances: [{name: NAME, service_clusters: ['*'], ports: PORTS}]}}]
templates: {default: [{type: endpoints, spec: {protocol: file, serialization: jinja2, path: TEMPLATE}}]}
node_matching: {enabled: true}
"""
_TEMPLATE = """
resources:
{% for one in instances %}
- cluster_name: {{ one.name }}
  endpoints:
  - locality: {zone: eu-1}
    lb_endpoints:
{% for port in one.ports %}
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{ port }} }}}
{% endfor %}
{% endfor %}
"""


@contextmanager
def sovereign(directory: Path, name: str, ports: Sequence[int]) -> Iterator[str]:
    """Have one that serves the endpoints of a cluster; yield its address."""
    program = os.environ.get("SVCMESH_TEST_SOVEREIGN") or shutil.which("sovereign")
    if program is None:
        pytest.skip(NO_SOVEREIGN)
    template, config, port = directory / "endpoints.yaml", directory / "sovereign.yaml", HeldPort()
    template.write_text(_TEMPLATE)
    text = _CONFIG.replace("NAME", name).replace("PORTS", str(list(ports))).replace("TEMPLATE", str(template))
    config.write_text(text)
    settings = {
        "SOVEREIGN_CONFIG": f"file://{config}",
        "SOVEREIGN_HOST": port.host,
        "SOVEREIGN_PORT": str(port.number),
        "SOVEREIGN_WORKERS": "1",
    }
    with (directory / "sovereign.log").open("wb") as log:
        process = subprocess.Popen(
            [program], cwd=directory, env=os.environ | settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until(lambda: _answers(f"http://{port.address}/healthcheck"))
        yield port.address
    finally:
        process.terminate()
        process.wait(30)
        port.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
