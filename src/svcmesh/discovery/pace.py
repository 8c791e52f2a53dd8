"""How often a registry may be asked: a bucket of tokens. Churn makes no busy loop, a single change waits for nothing.

And when those ask again who lost it in one moment: not in one moment.

Source: hashicorp/consul#5358, where blocking queries of a busy service came back without a pause.
"""

from __future__ import annotations

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import Clock, sleep_until

SLOWLY = 1.0
"""Seconds after which something is asked again that only people can mend: a token, a right, a wrong name. All who are
told so spread from there to 5 s (`svcmesh.policy.watch_backoff`), the cap of all waits that no registry asks for."""

SPREAD = 4.0
"""Seconds over which clients come back to a registry that was restarted."""


async def spread(clock: Clock, rng: Rng) -> None:
    """Wait for this client's moment to come back."""
    await sleep_until(clock, clock.now() + SPREAD * rng.random())


class Bucket:
    """Holds up to ``burst`` tokens; another one comes every ``seconds``."""

    def __init__(self, clock: Clock, burst: int, seconds: float) -> None:
        self._clock = clock
        self._burst = burst
        self._seconds = seconds
        self._full_at = clock.now()  # the instant at which nothing is missing any more

    async def take(self) -> None:
        """Take a token, as soon as there is one."""
        now = self._clock.now()
        self._full_at = max(self._full_at, now) + self._seconds
        due = self._full_at - self._burst * self._seconds
        if due > now:
            await sleep_until(self._clock, due)
