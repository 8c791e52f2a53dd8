"""One chart over time: its frame and scales, and the two ways to draw in it, lines and layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from svcmesh.cli.demo.series import ticks
from svcmesh.cli.demo.svg import Drawing, Point

INK = "#333333"
FAINT = "#777777"
GRID = "#d8dce2"


@dataclass(frozen=True)
class Panel:
    """A chart of ``length`` seconds by values up to ``highest``, placed in a drawing.

    Attributes:
        lowest: value at the bottom; more than 0 makes the scale logarithmic, 0 linear.
    """

    drawing: Drawing
    title: str
    left: float
    top: float
    width: float
    height: float
    length: float
    highest: float
    lowest: float = 0.0

    @property
    def bottom(self) -> float:
        """Where the time axis is."""
        return self.top + self.height

    def x(self, seconds: float) -> float:
        """Return where an instant is."""
        return self.left + self.width * min(1.0, max(0.0, seconds / self.length))

    def y(self, value: float) -> float:
        """Return where a value is; values beyond the scale are at its end."""
        if self.lowest > 0:
            share = math.log(max(value, self.lowest) / self.lowest) / math.log(self.highest / self.lowest)
        else:
            share = value / self.highest
        return self.bottom - self.height * min(1.0, max(0.0, share))

    def frame(self, labels: Mapping[float, str]) -> None:
        """Draw title, grid and axis; ``labels`` says what is written at which value."""
        self.drawing.text((self.left, self.top - 7), self.title, size=12, bold=True)
        for value, label in labels.items():
            y = self.y(value)
            self.drawing.line((self.left, y), (self.left + self.width, y), stroke=GRID)
            self.drawing.text((self.left - 8, y + 4), label, fill=FAINT, anchor="end")
        self.drawing.line((self.left, self.bottom), (self.left + self.width, self.bottom), stroke=FAINT)

    def time_axis(self) -> None:
        """Write the seconds below."""
        for second in ticks(self.length, 7):
            if second <= self.length:
                x = self.x(second)
                self.drawing.line((x, self.bottom), (x, self.bottom + 12), stroke=FAINT)
                self.drawing.text((x, self.bottom + 25), f"{second:g} s", fill=FAINT, anchor="middle")

    def curve(self, values: Sequence[float | None], *, stroke: str, hint: str, width: float = 1.8) -> None:
        """Draw a line through the middles of the slices; None interrupts it, and a lone value is a dot."""
        for run in _runs(self._points(values)):
            points = run if len(run) > 1 else [(run[0][0] - 2, run[0][1]), (run[0][0] + 2, run[0][1])]
            self.drawing.path(points, stroke=stroke, hint=hint, width=width)

    def layers(self, rows: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> None:
        """Draw rows of values on top of each other, the first one lowest."""
        below = [0.0] * max((len(row) for row in rows.values()), default=0)
        for name, row in rows.items():
            above = [low + value for low, value in zip(below, row, strict=True)]
            for start, end in _spans(row):
                upper = self._edge(above, start, end)
                lower = self._edge(below, start, end)
                self.drawing.shape([*upper, *reversed(lower)], fill=colours[name], hint=name)
            below = above

    def legend(self, entries: Mapping[str, str]) -> None:
        """Write what the colours mean, at the right; the last entry lowest."""
        for index, (name, colour) in enumerate(entries.items()):
            y = self.top + 12 + 17 * index
            self.drawing.box(self.left + self.width + 16, y - 8, 12, 9, fill=colour)
            self.drawing.text((self.left + self.width + 34, y), name)

    def _points(self, values: Sequence[float | None]) -> list[Point | None]:
        step = self.length / len(values)
        return [
            None if value is None else (self.x((index + 0.5) * step), self.y(value))
            for index, value in enumerate(values)
        ]

    def _edge(self, values: Sequence[float], start: int, end: int) -> list[Point]:
        """Return the edge of a layer from slice ``start`` to ``end``, in steps: a slice is as wide as it lasted."""
        step = self.length / len(values)
        return [
            (self.x((index + side) * step), self.y(values[index])) for index in range(start, end) for side in (0, 1)
        ]


def _runs(points: Sequence[Point | None]) -> list[list[Point]]:
    gaps = [-1, *(index for index, point in enumerate(points) if point is None), len(points)]
    runs = [[point for point in points[start + 1 : end] if point is not None] for start, end in pairwise(gaps)]
    return [run for run in runs if run]


def _spans(row: Sequence[float]) -> list[tuple[int, int]]:
    """Return the stretches ``[start, end)`` in which a layer has a height."""
    edges = [0.0, *row, 0.0]
    changes = [index for index, (one, other) in enumerate(pairwise(edges)) if (one > 0) != (other > 0)]
    return list(zip(changes[::2], changes[1::2], strict=True))
