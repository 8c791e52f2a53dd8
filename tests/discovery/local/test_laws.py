"""Laws of the embedded registry: who left in order is gone within a look, who was lost without a word stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from svcmesh.core.emit import silent
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.local.rounds import POLL
from svcmesh.discovery.local.scan import Scan
from svcmesh.testing.sim import Kernel

TTL = 4.0
IDS = st.sampled_from(["1", "2", "3"])


@dataclass
class Known:
    """What the model knows of one id.

    Attributes:
        up: its process runs and has registered. proof: the last sign of its life.
        seen: a reader has seen it since. lost: a stranger has taken its file away since.
    """

    up: bool = False
    proof: float = -1e9
    seen: bool = False
    lost: bool = False


def done(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError


class Lives(RuleBasedStateMachine):
    """Three processes that come, heartbeat, stop to, and leave, while a stranger deletes files and a reader looks."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.mkdtemp()
        self.root = Path(self.home) / "registry"
        self.clock = Kernel(1000.0)
        self.registries = {each: LocalRegistry(str(self.root), clock=self.clock) for each in ("1", "2", "3")}
        self.scan = Scan(str(self.root), "orders", clock=self.clock, emit=silent)
        self.known = {each: Known() for each in self.registries}
        self.root.mkdir(0o700)
        self.look()

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @rule(each=IDS)
    def register(self, each: str) -> None:
        done(self.registries[each].register(self.announcement(each)))
        self.known[each] = Known(up=True, proof=self.clock.now())
        self.moved()

    @rule(each=IDS)
    def heartbeat(self, each: str) -> None:
        known = self.known[each]
        if known.up:
            done(self.registries[each].heartbeat(self.announcement(each)))
            known.seen = known.seen and self.clock.now() < known.proof + TTL  # who was silent has been dropped
            known.proof, known.lost = self.clock.now(), False
            self.moved()

    @rule(each=IDS)
    def leave(self, each: str) -> None:
        done(self.registries[each].deregister(self.announcement(each)))
        self.known[each] = Known()
        self.moved()

    @rule(each=IDS)
    def stranger_deletes(self, each: str) -> None:
        path = self.root / "orders" / f"{each}.json"
        if path.exists():
            path.unlink()
            self.known[each].lost = True
            self.moved()

    @rule(looks=st.integers(1, 20))
    def time_passes(self, looks: int) -> None:
        for _ in range(looks):
            self.clock.run(until=self.clock.now() + POLL)
            self.look()

    def announcement(self, each: str) -> Announcement:
        return Announcement("orders", each, f"10.0.0.{each}:1", ttl=TTL)

    def moved(self) -> None:
        """Let a moment pass, on the file system's clock too, which is the real one and as coarse as a tick."""
        self.clock.run(until=self.clock.now() + 0.001)
        if (self.root / "orders").exists():
            os.utime(self.root / "orders", (0, self.clock.now()))

    def look(self) -> None:
        self.scan.poll()
        listed = {endpoint.address for endpoint in self.scan.endpoints}
        now = self.clock.now()
        for each, known in self.known.items():
            there = f"10.0.0.{each}:1" in listed
            alive = known.up and now < known.proof + TTL - 0.01
            known.seen = known.seen or (alive and not known.lost)
            if alive and known.seen:
                assert there, f"{each} is alive and was dropped"
            if not known.up:
                assert not there, f"{each} has left and is listed"
            if now > known.proof + 2 * TTL + POLL:
                assert not there, f"{each} has been silent for two TTLs"


LivesTest = Lives.TestCase
LivesTest.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
