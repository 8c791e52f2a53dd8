"""The script of the demo, played on a stage that only writes down."""

from __future__ import annotations

import pytest

from svcmesh.cli.demo.acts import ACTS, GREETERS, ORDERS, acts_for, lasting


class Notes:
    """A stage that notes what is done, and who is well after it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.well = {*GREETERS, *ORDERS}
        self.disturbed: set[str] = set()

    def start(self, *names: str) -> None:
        self.done.append("start")
        self.well |= {*names}

    def kill(self, *names: str) -> None:
        assert self.well >= {*names}, "only who lives can be killed"
        self.done.append("kill")
        self.well -= {*names}

    def freeze(self, *names: str) -> None:
        assert self.well >= {*names}
        self.done.append("freeze")
        self.well -= {*names}

    def thaw(self, *names: str) -> None:
        self.done.append("thaw")
        self.well |= {*names}

    def disturb(self, name: str) -> None:
        assert name in self.well
        self.done.append("disturb")
        self.disturbed.add(name)

    def calm(self) -> None:
        self.done.append("calm")
        self.disturbed.clear()

    def kill_registry(self) -> None:
        self.done.append("kill registry")

    def start_registry(self) -> None:
        self.done.append("start registry")


def test_all_that_was_promised_happens_in_order() -> None:
    """A steady start, a kill, a freeze and its thaw, a new server, and a disturbance of one of three, which ends."""
    stage = Notes()
    for index, act in enumerate(ACTS):
        act.begin(stage)
        assert index or not stage.done, "the first act is steady"
        if stage.disturbed:
            assert sum(name.startswith("greeter-") for name in stage.well) == 3
        act.end(stage)

    assert stage.done == ["kill", "freeze", "thaw", "start", "disturb", "calm"]


def test_a_registry_of_the_demos_own_is_back_before_new_servers_join() -> None:
    """It is killed for one act only; who joins in the next one shows that it works again."""
    stage = Notes()
    for act in acts_for(own_registry=True):
        act.begin(stage)
        act.end(stage)

    assert stage.done == ["kill", "freeze", "thaw", "kill registry", "start registry", "start", "disturb", "calm"]
    assert acts_for(own_registry=False) == ACTS


def test_somebody_is_always_well() -> None:
    """After the beginning of each act there is a Greeter and an order service that can answer."""
    stage = Notes()
    for act in ACTS:
        act.begin(stage)
        assert {name.partition("-")[0] for name in stage.well} == {"greeter", "orders"}
        act.end(stage)


@pytest.mark.parametrize("seconds", [5.0, 35.0, 600.0])
def test_acts_stretch_alike(seconds: float) -> None:
    """However long the run is, the acts keep their proportions and do the same."""
    acts = lasting(ACTS, seconds)

    assert sum(act.seconds for act in acts) == pytest.approx(seconds)
    assert [act.title for act in acts] == [act.title for act in ACTS]
    assert acts[0].seconds / acts[-1].seconds == pytest.approx(ACTS[0].seconds / ACTS[-1].seconds)
