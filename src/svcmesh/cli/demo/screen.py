"""What is seen while the demo runs: a live table on a terminal, a line a second anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from svcmesh.cli.demo.acts import Act
from svcmesh.cli.demo.figures import WINDOW, Figures, instances_now, milliseconds, of_calls, percent, protocols
from svcmesh.cli.demo.record import Record, since

EVERY = 1.0
"""Seconds between two plain lines."""


class Screen(Protocol):
    """What shows the run. Leaving its block puts the terminal in order again."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def act(self, act: Act) -> None:
        """An act begins."""

    def refresh(self, status: Mapping[str, str]) -> None:
        """Show how it stands; ``status`` says in a word how each server is."""


def screen_for(stream: TextIO, record: Record, seconds: float) -> Screen:
    """Return the table where ``stream`` is a terminal, else the lines; ``seconds`` is how long all acts take."""
    if stream.isatty():
        return LiveScreen(Console(file=stream), record, seconds)
    return PlainScreen(stream, record)


class PlainScreen:
    """One line per second, and one per act; plain ASCII, for files and pipes."""

    def __init__(self, stream: TextIO, record: Record) -> None:
        self._stream = stream
        self._record = record
        self._due = EVERY

    def __enter__(self) -> Self:
        """Return the screen."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing has to be put in order."""

    def act(self, act: Act) -> None:
        """Say what begins."""
        print(f"{self._record.elapsed():5.1f} s  -- {act.title}: {act.story}", file=self._stream, flush=True)

    def refresh(self, status: Mapping[str, str]) -> None:
        """Print a line when the next one is due."""
        elapsed = self._record.elapsed()
        if elapsed < self._due:
            return
        self._due = elapsed - elapsed % EVERY + EVERY  # the next whole second, however late this one is
        now, failed = _calls_now(self._record), len(self._record.failures)
        shares = "  ".join(
            f"{found.name} {percent(found.share)}{'' if status.get(found.name) == 'up' else '!'}"
            for found in instances_now(self._record)
            if found.name in status
        )
        print(
            f"{elapsed:5.1f} s  {now.count / min(WINDOW, elapsed):4.0f} calls/s  p50 {milliseconds(now.p50)}  "
            f"p99 {milliseconds(now.p99)}  failed {failed}  retries {self._record.retries}  {shares}",
            file=self._stream,
            flush=True,
        )


class LiveScreen:
    """A table that is drawn again and again in the same place."""

    def __init__(self, console: Console, record: Record, seconds: float) -> None:
        self._record = record
        self._seconds = seconds
        self._act: Act | None = None
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last drawing, and give the cursor back."""
        self._live.stop()

    def act(self, act: Act) -> None:
        """Show what begins."""
        self._act = act

    def refresh(self, status: Mapping[str, str]) -> None:
        """Draw."""
        self._live.update(self.drawing(status), refresh=True)

    def drawing(self, status: Mapping[str, str]) -> RenderableType:
        """Return what is drawn now."""
        record, elapsed = self._record, self._record.elapsed()
        title = Text("svcmesh demo", style="bold")
        if self._act is not None:
            title.append(f"  {self._act.title}", style="bold cyan").append(f"  {self._act.story}", style="none")
        failed = len(record.failures)
        ejected = sum(record.ejections.values())
        footer = Text(f"{len(record.calls):,} calls, ")
        footer.append(f"{failed} failed", style="bold red" if failed else "bold green")
        footer.append(f", {record.retries} retries, {ejected} ejections, {record.faults} faults injected")
        progress = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._seconds, completed=min(elapsed, self._seconds), width=60)
        progress.add_row(bar, f"{elapsed:.0f} of {self._seconds:.0f} s")
        return Group(title, progress, self._instances(status), self._protocols(elapsed), footer)

    def _instances(self, status: Mapping[str, str]) -> Table:
        table = _table("server", "share now", "", "attempts", "p50", "p99", "ejections", "state")
        for found in instances_now(self._record):
            state = status.get(found.name, "gone")
            table.add_row(
                found.name,
                ProgressBar(total=1.0, completed=found.share, width=24),
                percent(found.share),
                f"{found.attempts:,}",
                milliseconds(found.now.p50),
                milliseconds(found.now.p99),
                str(found.ejections),
                Text(state, style={"up": "green", "gone": "dim"}.get(state, "bold red")),
            )
        return table

    def _protocols(self, elapsed: float) -> Table:
        table = _table("protocol", "calls/s", "calls", "failed", "p50", "p99")
        recent = since(self._record.calls, elapsed - WINDOW)
        calls = list(self._record.calls)
        for protocol in protocols(calls):
            now = of_calls([call for call in recent if call.protocol == protocol])
            total = of_calls([call for call in calls if call.protocol == protocol])
            rate = f"{now.count / max(0.1, min(WINDOW, elapsed)):.0f}"
            table.add_row(
                protocol, rate, f"{total.count:,}", str(total.failed), milliseconds(now.p50), milliseconds(now.p99)
            )
        return table


def _calls_now(record: Record) -> Figures:
    return of_calls(since(record.calls, record.elapsed() - WINDOW))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, min_width=14)
    for title in others:
        table.add_column(title, justify="left" if title in ("share now", "state") else "right")
    return table
