"""How long to wait before another attempt, when nothing else says so.

Clients that failed together must not come back together, so the whole wait is drawn, not only its edge: full
jitter needs the fewest calls in total to get a contended job done (AWS Architecture Blog, 2015), and Envoy does it.
gRPC's waits are for those who have written them down for gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.errors import ConfigError

_MAX_DOUBLINGS = 64
"""Beyond this many doublings the cap has long been reached; more would overflow a float."""

_SPREAD = 0.2  # part of a wait by which gRPC's are longer or shorter


@dataclass(frozen=True, kw_only=True, slots=True)
class FullJitter:
    """Wait from 0 to ``base * 2 ** (n - 1)`` seconds, at most ``cap``, before the n-th retry, evenly drawn.

    Args:
        base: upper end of the first wait in seconds, more than 0; default 25 ms.
        cap: upper end of every wait in seconds, at least ``base``; default 250 ms.

    Raises:
        ConfigError: ``base`` or ``cap`` is not positive and finite, or ``cap`` is below ``base``.

    Source: Envoy, `JitteredExponentialBackOffStrategy`; AWS "full jitter".
    """

    base: float = 0.025
    cap: float = 0.25

    def __post_init__(self) -> None:
        """Check both ends."""
        checks.duration("base", self.base)
        checks.duration("cap", self.cap)
        if self.cap < self.base:
            raise ConfigError(f"cap must be at least base ({self.base!r} seconds), not {self.cap!r}")

    def ceiling(self, retry: int) -> float:
        """Return the longest possible wait in seconds before retry number ``retry`` (from 1)."""
        return float(min(self.cap, self.base * 2.0 ** min(retry - 1, _MAX_DOUBLINGS)))

    def seconds(self, retry: int, rng: Rng) -> float:
        """Draw the wait in seconds before retry number ``retry`` (from 1)."""
        return self.ceiling(retry) * rng.random()


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpcBackoff:
    """Wait ``initial * multiplier ** (n - 1)`` seconds, at most ``cap``, before the n-th retry, a fifth more or less.

    Args:
        initial: the first wait in seconds, more than 0. cap: the longest in seconds, more than 0; by what is drawn a
            wait may exceed it.
        multiplier: by what each wait is longer than the one before it, more than 0.

    Raises:
        ConfigError: one of them is not positive and finite.

    Source: gRPC, proposal A6 (`retryPolicy`).
    """

    initial: float
    cap: float
    multiplier: float

    def __post_init__(self) -> None:
        """Check all three."""
        checks.duration("initial", self.initial)
        checks.duration("cap", self.cap)
        if checks.number("multiplier", self.multiplier) <= 0:
            raise ConfigError(f"multiplier must be more than 0, not {self.multiplier!r}")

    def seconds(self, retry: int, rng: Rng) -> float:
        """Draw the wait in seconds before retry number ``retry`` (from 1)."""
        try:
            grown = min(self.initial * float(self.multiplier) ** (retry - 1), self.cap)
        except OverflowError:
            grown = self.cap
        return grown * (1 - _SPREAD + 2 * _SPREAD * rng.random())


Backoff = FullJitter | GrpcBackoff
"""The waits that draw from the random numbers of the mesh."""
