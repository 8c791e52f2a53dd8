"""What every test gets: a look at what it leaves behind, and the same settings of hypothesis everywhere."""

from __future__ import annotations

import signal

import hypothesis
import pytest

import svcmesh.discovery.pace
import svcmesh.discovery.strand
import svcmesh.engine.watch
import svcmesh.policy.heartbeat
from svcmesh.policy.watch_backoff import WatchBackoff

pytest_plugins = ["pytester", "tests.leak_check"]

# No deadline per example, and no complaint that examples are slow to come: a shared machine stalls now and then, which
# says nothing of the library or the test, and slowness is measured in benchmarks/. What else is checked of strategies
# does not depend on time.
# Examples are the same in every run, so that a change is judged by what it changes; "explore" looks for new ones.
hypothesis.settings.register_profile(
    "explore", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("svcmesh", hypothesis.settings.get_profile("explore"), derandomize=True)
hypothesis.settings.load_profile("svcmesh")


def pytest_configure():
    """Have Ctrl-C work, in tests and the processes that they start, where a shell in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def come_back(monkeypatch):
    """Come back soon to a registry that failed: users' clients are many, and take up to 5 s, not to come together.

    Tests of just that have a fixture of this name that does nothing.
    """
    monkeypatch.setattr(svcmesh.discovery.pace, "SPREAD", 0.1)
    monkeypatch.setattr(svcmesh.policy.heartbeat, "LONGEST", 0.5)
    for module in (svcmesh.engine.watch, svcmesh.discovery.strand):
        monkeypatch.setattr(module, "WATCHES", WatchBackoff(base=0.1, cap=0.5))
