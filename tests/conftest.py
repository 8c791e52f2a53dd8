"""What every test gets: a look at what it leaves behind, and the same settings of hypothesis everywhere."""

from __future__ import annotations

import hypothesis

pytest_plugins = ["pytester", "tests.leak_check"]

# No deadline per example: a shared machine stalls now and then, and slowness is measured in benchmarks/.
hypothesis.settings.register_profile("svcmesh", deadline=None, print_blob=True)
hypothesis.settings.load_profile("svcmesh")
