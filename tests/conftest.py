"""What every test gets: a look at what it leaves behind, and the same settings of hypothesis everywhere."""

from __future__ import annotations

import hypothesis

pytest_plugins = ["pytester", "tests.leak_check"]

# No deadline per example, and no complaint that examples are slow to come: a shared machine stalls now and then, which
# says nothing of the library or the test, and slowness is measured in benchmarks/. What else is checked of strategies
# does not depend on time.
hypothesis.settings.register_profile(
    "svcmesh", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("svcmesh")
