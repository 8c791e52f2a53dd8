"""Two processes that share something, as far as an engine can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from svcmesh.engine.runtime import Runtime
from svcmesh.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtimes(clock: FakeClock) -> Iterator[list[Runtime]]:
    """Return two runtimes with one clock."""
    made = [Runtime(clock), Runtime(clock)]
    yield made
    for runtime in made:
        runtime.close()
        runtime.worker.join()
