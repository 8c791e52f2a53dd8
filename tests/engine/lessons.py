"""A balancer that writes down what it is told of the ends of attempts, for tests of whoever has to tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from svcmesh.balance import RoundRobin
from svcmesh.balance.cell import Cell

Lesson = tuple[str, float, bool | None]


@dataclass(frozen=True)
class Recording(RoundRobin):
    """Round robin; ``lessons`` is what it was told: address, seconds, and whether the attempt failed."""

    lessons: list[Lesson] = field(default_factory=list, compare=False)

    def learn(self, cell: Cell, seconds: float, now: float, failed: bool | None) -> None:
        self.lessons.append((cell.endpoint.address, seconds, failed))

    @property
    def verdicts(self) -> list[bool | None]:
        return [failed for _, _, failed in self.lessons]
