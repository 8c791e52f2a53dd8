"""What is seen while the demo runs."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from svcmesh.cli.demo.acts import ACTS
from svcmesh.cli.demo.screen import LiveScreen, PlainScreen, screen_for
from tests.cli.demo.samples import Now, sample

STATUS = {"greeter-2": "up", "orders-1": "ejected"}


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_table_and_others_the_lines() -> None:
    """It is the stream that decides."""
    assert isinstance(screen_for(Terminal(), sample(), 10), LiveScreen)
    assert isinstance(screen_for(StringIO(), sample(), 10), PlainScreen)


def test_plain_lines_come_once_a_second() -> None:
    """A line when a second has passed, none in between; acts at once; only ASCII, and no escapes."""
    stream, now = StringIO(), Now()
    record = sample(now)
    with PlainScreen(stream, record) as screen:
        screen.act(ACTS[1])
        screen.refresh(STATUS)
        now.seconds += 0.5
        screen.refresh(STATUS)
        now.seconds += 0.5
        screen.refresh(STATUS)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == " 10.0 s  -- SIGKILL: greeter-1 and orders-1 are killed with SIGKILL"
    assert lines[1] == (
        " 10.0 s    20 calls/s  p50 2.0 ms  p99 4.0 ms  failed 0  retries 0  greeter-2 100 %  orders-1 100 %!"
    )
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


def test_the_table_shows_servers_and_protocols() -> None:
    """Shares, attempts, percentiles, ejections and state of each server; rates of each protocol; the act; the sum."""
    console = Console(file=StringIO(), width=130, force_terminal=False)
    screen = LiveScreen(console, sample(failures=3), 20.0)
    screen.act(ACTS[1])
    console.print(screen.drawing(STATUS))
    assert isinstance(console.file, StringIO)
    rows = {line.split()[0]: line.split() for line in console.file.getvalue().splitlines() if line.strip()}

    assert "SIGKILL" in rows["svcmesh"]
    assert rows["greeter-1"][-7:] == ["0", "%", "25", "-", "-", "1", "gone"]
    assert rows["greeter-2"][-9:] == ["100", "%", "75", "1.0", "ms", "1.0", "ms", "0", "up"]
    assert rows["orders-1"][-1] == "ejected"
    assert rows["HTTP"][1:4] == ["10", "100", "0"]
    assert " ".join(rows["203"]) == "203 calls, 3 failed, 0 retries, 1 ejections, 0 faults injected"
    assert "10 of 20 s" in console.file.getvalue()


def test_the_terminal_is_left_in_order() -> None:
    """After the block the last drawing stands, and the cursor is shown again."""
    stream = Terminal()
    console = Console(file=stream, width=130, force_terminal=True)
    with LiveScreen(console, sample(), 20.0) as screen:
        screen.act(ACTS[0])
        screen.refresh(STATUS)

    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")
    assert "greeter-2" in stream.getvalue()
