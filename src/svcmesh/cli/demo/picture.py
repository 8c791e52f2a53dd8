"""The run as a picture: calls, latency, and the share of every server over time, with the acts marked behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from svcmesh.cli.demo.figures import milliseconds, of_calls, protocols
from svcmesh.cli.demo.panel import FAINT, INK, Panel
from svcmesh.cli.demo.record import Mark, Record
from svcmesh.cli.demo.series import quantile, shares, slices, ticks
from svcmesh.cli.demo.svg import Drawing, Point

SLICES = 72
"""Into how many slices the run is cut: half a second each in a run of full length."""

WIDTH, LEFT, RIGHT = 1080.0, 74.0, 176.0
HEAD = 62.0
BAND = 38.0
GAP = 40.0
FOOT = 48.0

SHADES = ("#f1f4f8", "#fafbfc")
RED = "#c0262d"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a2e", "#6a3d9a")
"""Okabe and Ito's, which most people can tell apart however they see colours; the last two fill up."""

SYMBOLS = {"ejected": RED, "restored": "#1b7f4b", "joined": "#2b6cb0", "left": FAINT}


@dataclass(frozen=True)
class Plan:
    """What a panel shows: its height in pixels, and the function that draws it when it is placed."""

    height: float
    draw: Callable[[Drawing, float, float], Panel]


class Picture:
    """A record, drawn. The record must not change any more."""

    def __init__(self, record: Record, length: float) -> None:
        self._record = record
        self._length = max(length, 0.1)
        self._slice = self._length / SLICES
        names = sorted(record.addresses, key=lambda name: (record.addresses[name][0], name))
        self._colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}

    def encoded(self) -> bytes:
        """Return the picture as an SVG file."""
        plans = [Plan(120, self._calls), Plan(120, self._latency), Plan(130, self._instances)]
        services = sorted({service for service, _ in self._record.addresses.values()})
        plans += [Plan(110, self._share(service)) for service in services]
        heights = sum(plan.height + GAP for plan in plans)
        drawing = Drawing(WIDTH, HEAD + BAND + heights + FOOT, "svcmesh demo")
        self._head(drawing)
        spans = self._spans()
        self._bands(drawing, spans, HEAD + BAND + heights)
        top = HEAD + BAND + GAP - 12
        panel: Panel | None = None
        for plan in plans:
            panel = plan.draw(drawing, top, plan.height)
            top += plan.height + GAP
        for start, _, _ in spans:  # last, since what is drawn in the panels hides what is behind
            drawing.line((self._x(start), HEAD), (self._x(start), HEAD + BAND + heights), stroke="#98a2b0")
        if panel is not None:
            panel.time_axis()
            self._symbols(drawing, panel.bottom + 46)
        return drawing.encoded()

    # -- around the panels ---------------------------------------------------------------------------------------------

    def _head(self, drawing: Drawing) -> None:
        found = of_calls(self._record.calls)
        drawing.text((LEFT, 30), "svcmesh demo", size=19, bold=True)
        words = (
            f"{found.count:,} calls, {found.failed} failed; "
            f"p50 {milliseconds(found.p50)}, p99 {milliseconds(found.p99)}; "
            f"{self._record.retries} retries, {sum(self._record.ejections.values())} ejections, "
            f"{self._record.faults} faults injected"
        )
        drawing.text((LEFT, 49), words, size=12, fill=RED if found.failed else FAINT)

    def _spans(self) -> list[tuple[float, float, str]]:
        """Return when each act began and ended, and its title; the first one began when all did."""
        acts = [mark for mark in self._record.marks if mark.kind == "act"]
        starts = [0.0, *(act.at for act in acts[1:])][: len(acts)]
        return list(zip(starts, [*starts[1:], self._length], (act.text for act in acts), strict=False))

    def _bands(self, drawing: Drawing, spans: list[tuple[float, float, str]], bottom: float) -> None:
        for index, (start, end, title) in enumerate(spans):
            left, right = self._x(start), self._x(end)
            drawing.box(left, HEAD, right - left, bottom - HEAD, fill=SHADES[index % 2])
            for number, line in enumerate(wrapped(title, int((right - left - 10) / 6.3))):
                drawing.text((left + 6, HEAD + 15 + 14 * number), line, size=11, fill=INK, bold=True)

    def _symbols(self, drawing: Drawing, y: float) -> None:
        left = LEFT
        for kind in SYMBOLS:
            _symbol(drawing, kind, (left + 5, y - 4), "")
            drawing.text((left + 15, y), f"server {kind}", fill=FAINT)
            left += 110

    def _x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, seconds / self._length))

    # -- the panels ----------------------------------------------------------------------------------------------------

    def _panel(
        self, drawing: Drawing, title: str, place: tuple[float, float], highest: float, lowest: float = 0.0
    ) -> Panel:
        width = WIDTH - LEFT - RIGHT
        return Panel(drawing, title, LEFT, place[0], width, place[1], self._length, highest, lowest)

    def _calls(self, drawing: Drawing, top: float, height: float) -> Panel:
        names = protocols(self._record.calls)
        colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
        rows = {name: [len(found) / self._slice for found in self._sliced(self._calls_by(name))] for name in names}
        largest = max((sum(column) for column in zip(*rows.values(), strict=True)), default=1.0)
        marks = ticks(largest, 3)
        panel = self._panel(drawing, "Calls per second", (top, height), marks[-1])
        panel.frame({value: f"{value:g}" for value in marks})
        panel.layers(rows, colours)
        panel.legend(dict(reversed(colours.items())))
        for failure in self._record.failures:
            x = panel.x(failure.at)
            drawing.line((x, panel.top), (x, panel.bottom), stroke=RED, width=1.5, hint=failure.error or "")
        return panel

    def _latency(self, drawing: Drawing, top: float, height: float) -> Panel:
        found = self._sliced((call.at, call.seconds) for call in self._record.calls)
        panel = self._log_panel(drawing, "Latency as callers see it, retries included", (top, height))
        colours = {"p99": RED, "p50": COLOURS[0]}
        for name, share in (("p99", 0.99), ("p50", 0.5)):
            panel.curve([quantile(values, share) for values in found], stroke=colours[name], hint=name)
        panel.legend(colours)
        return panel

    def _instances(self, drawing: Drawing, top: float, height: float) -> Panel:
        panel = self._log_panel(drawing, "Latency of the attempts at each server (p50)", (top, height))
        for name, colour in self._colours.items():
            found = self._sliced((a.at, a.seconds) for a in self._record.attempts if a.instance == name)
            panel.curve([quantile(values, 0.5) for values in found], stroke=colour, hint=name, width=1.5)
        panel.legend(self._colours)
        return panel

    def _share(self, service: str) -> Callable[[Drawing, float, float], Panel]:
        def draw(drawing: Drawing, top: float, height: float) -> Panel:
            names = [name for name in self._colours if self._record.addresses[name][0] == service]
            counts = [
                [
                    float(len(found))
                    for found in self._sliced((a.at, 1.0) for a in self._record.attempts if a.instance == name)
                ]
                for name in names
            ]
            panel = self._panel(drawing, f"Share of the attempts: {service}", (top, height), 1.0)
            panel.frame({0.0: "0 %", 0.5: "50 %", 1.0: "100 %"})
            panel.layers(dict(zip(names, shares(counts), strict=True)), self._colours)
            panel.legend({name: self._colours[name] for name in reversed(names)})
            for mark in self._marks_of(names):
                _symbol(
                    drawing,
                    mark.kind,
                    (panel.x(mark.at), panel.bottom + 8),
                    f"{mark.at:.1f} s: {mark.text} {mark.kind}",
                )
            return panel

        return draw

    def _log_panel(self, drawing: Drawing, title: str, place: tuple[float, float]) -> Panel:
        panel = self._panel(drawing, title, place, highest=3.0, lowest=0.0003)
        panel.frame({0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1.0: "1 s"})
        return panel

    def _calls_by(self, protocol: str) -> Iterable[tuple[float, float]]:
        return ((call.at, 1.0) for call in self._record.calls if call.protocol == protocol)

    def _sliced(self, instants: Iterable[tuple[float, float]]) -> list[list[float]]:
        return slices(instants, self._length, self._slice)[:SLICES]

    def _marks_of(self, names: list[str]) -> list[Mark]:
        return [mark for mark in self._record.marks if mark.text in names and mark.kind in SYMBOLS and mark.at > 0]


def wrapped(words: str, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` characters, at blanks only; at most two lines, else it is cut."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:2]


def _symbol(drawing: Drawing, kind: str, at: Point, hint: str) -> None:
    x, y = at
    colour = SYMBOLS[kind]
    if kind == "left":
        drawing.line((x - 3, y - 3), (x + 3, y + 3), stroke=colour, width=1.8, hint=hint)
        drawing.line((x - 3, y + 3), (x + 3, y - 3), stroke=colour, width=1.8, hint=hint)
        return
    down = 1 if kind == "ejected" else -1
    drawing.shape([(x - 4, y - 4 * down), (x + 4, y - 4 * down), (x, y + 4 * down)], fill=colour, hint=hint)
