"""One set of checks for each way of checking; what the whole service asks of them is asked of all."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.engine.alone import alone
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import Policy
from tests.engine.health.asked import A, Stage, check, staged


def test_equal_checks_are_one() -> None:
    async def main(stage: Stage) -> None:
        health = stage.cluster.health
        one = health.join(check(), stage.view)

        assert health.join(check(), stage) is one is stage.view.checking
        assert health.join(check(timeout=2.0), stage) is not one

    staged(main, Policy(health_check=check()), A)


def test_one_that_joins_later_is_started_by_the_next_call() -> None:
    async def main(stage: Stage) -> None:
        stage.begin()
        late = View(stage.cluster, Policy(health_check=check()))
        assert late.choose() is None
        await stage.until(1.0)
        assert stage.asked.asked == {}
        stage.cluster.health.start()
        assert late.choose() is not None
        await stage.until(2.0)
        assert stage.asked.asked == {A: [1.0]}

    staged(main, Policy(), A)


def test_a_function_alone_has_no_endpoints_to_check() -> None:
    """It would never be known to be well; so that is said at once."""
    runtime = Runtime()
    with pytest.raises(ConfigError, match="health_check of the policy for 'fetch': there are no endpoints to check"):
        View(alone("fetch", runtime), Policy(health_check=check()))
    runtime.close()
