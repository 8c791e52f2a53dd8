"""Virtual time: the kernel of simulations, and an asyncio loop that jumps instead of sleeping."""

from __future__ import annotations

from svcmesh.testing.sim.kernel import DeadlockError, Kernel, Scheduled
from svcmesh.testing.sim.loop import VirtualLoop, run, virtual_clock

__all__ = ["DeadlockError", "Kernel", "Scheduled", "VirtualLoop", "run", "virtual_clock"]
