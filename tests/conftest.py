"""What every test gets: a look at what it leaves behind, and the same settings of hypothesis everywhere."""

from __future__ import annotations

import hypothesis

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
