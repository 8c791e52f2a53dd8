"""All benchmarks: ``python -m benchmarks [--quick] [--only NAME …] [--output DIR] [--markdown FILE]``.

Prints a table for each, and writes ``results.json`` and a plot of the ratios, ``results.svg``, into ``--output``
(default: benchmarks/results); benchmarks that draw a plot of their own write it beside these, or beside the page.
``--markdown`` writes the tables as a page, with the command that made them.
All of it takes about thirty minutes on a calm machine with two cores, ``--quick`` about five.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.micro import guard, local_registry, pickers, threads, under_load
from benchmarks.sim import balance
from benchmarks.wire import envoy, grpc, health, http, registries, scale, stream

DESCRIPTION = "Run the benchmarks: about thirty minutes for all of them on a calm machine with two cores."
Rows = list[dict[str, Any]]

BENCHMARKS: dict[str, tuple[str, Callable[[bool], Iterator[dict[str, Any]]]]] = {
    "guard": ("The standard policy around an empty function", lambda quick: guard.rows(15 if quick else guard.ROUNDS)),
    "pickers": (
        "A pick",
        lambda quick: pickers.rows((3, 100) if quick else pickers.SIZES, 5 if quick else pickers.ROUNDS),
    ),
    "balance": ("Quality of balance, in virtual time", lambda quick: balance.rows(quick=quick)),
    "updates": (
        "Picks while 10,000 endpoints change ten times a second",
        lambda quick: under_load.rows(1.0 if quick else under_load.SECONDS),
    ),
    "threads": (
        "Counts that many threads share",
        lambda quick: threads.rows(threads.CALLS // 20 if quick else threads.CALLS),
    ),
    "registry": ("The embedded registry, 200 entries", lambda quick: local_registry.rows(2.0 if quick else 10.0)),
    "registries": (
        "Following a registry",
        lambda quick: registries.rows(*((5, 100, 5) if quick else ())),
    ),
    "grpc": ("gRPC over loopback", lambda quick: grpc.rows(rounds=8 if quick else grpc.ROUNDS)),
    "http": ("HTTP over loopback", lambda quick: http.rows(rounds=8 if quick else http.ROUNDS)),
    "stream": (
        "Streams through gRPC, per message",
        lambda quick: stream.rows(rounds=4 if quick else stream.ROUNDS),
    ),
    "scale": ("A thousand endpoints: what a gRPC client holds of them", lambda quick: scale.rows()),  # noqa: ARG005 - quick
    "health": (
        "Health checks of a thousand endpoints",
        lambda quick: health.rows(*((2.0, 200) if quick else (health.INTERVAL,))),
    ),
    "envoy": (
        "Added latency, beside an Envoy sidecar",
        lambda quick: envoy.rows(rounds=8 if quick else envoy.ROUNDS),
    ),
}

MODULES = {
    "guard": guard,
    "pickers": pickers,
    "balance": balance,
    "updates": under_load,
    "threads": threads,
    "registry": local_registry,
    "registries": registries,
    "grpc": grpc,
    "http": http,
    "stream": stream,
    "scale": scale,
    "health": health,
    "envoy": envoy,
}
"""Where what is measured, and how, is told: the page of tables takes it from there."""


def main() -> None:
    """Run what was asked for, and write what was found."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 120)
    results: dict[str, Rows] = {}
    for name in arguments.only or BENCHMARKS:
        title, rows = BENCHMARKS[name]
        results[name] = list(rows(arguments.quick))
        console.print(_table(title, results[name]))
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps({"machine": _machine(), "results": results}, indent=1) + "\n")
    _plot(results, output / "results.svg")
    page: Path | None = arguments.markdown
    for name, found in results.items():
        plot = getattr(MODULES[name], "plot", None)
        if plot is not None:
            plot(found, (output if page is None else page.parent) / f"{name}.svg")  # a page shows it
    console.print(f"written: {output / 'results.json'} and {output / 'results.svg'}")
    if page is not None:
        page.write_text(_page(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="few rounds: five minutes, and less exact")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="run only these")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="where results go")
    parser.add_argument("--markdown", type=Path, help="write the tables as a Markdown page")
    return parser.parse_args()


def _table(title: str, rows: Rows) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}


def _page(results: dict[str, Rows]) -> str:
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    machine = _machine()
    lines = [
        "# Benchmarks",
        "",
        "Ratios of runs interleaved in one process; times are of the machine they were made on, and of no other.",
        "In the tables of calls `wall` and `cpu` are times the stock client's, `low` and `high` the interval of 95 %",
        "around `wall`. The stock client against itself (A/A) shows how much of a difference means nothing. `limit` is",
        "what our `cpu` may be; `ok` says whether it is, and `low` no more than 1.02. Other tables say themselves what",
        "is in them. Where they go as JSON and as plots, `--output` says.",
        "",
        f"Made by `{command}` with Python {machine['python']} on {machine['system']}, {machine['cores']} cores.",
    ]
    for name, rows in results.items():
        lines += ["", f"## {BENCHMARKS[name][0]}", "", *(MODULES[name].__doc__ or "").strip().splitlines()]
        lines += ["", f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
        lines += [f"| {' | '.join(_text(value) for value in row.values())} |" for row in rows]
        if hasattr(MODULES[name], "plot"):
            lines += ["", f"![{BENCHMARKS[name][0]}]({name}.svg)"]
    return "\n".join(lines) + "\n"


def _plot(results: dict[str, Rows], path: Path) -> None:
    """Draw the ratio of every row that has one, a panel for each benchmark."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    panels = {name: rows for name, rows in results.items() if {"ratio", "wall"} & rows[0].keys()}
    if not panels:
        return
    figure, axes = plt.subplots(len(panels), squeeze=False, figsize=(9, sum(1 + len(r) / 5 for r in panels.values())))
    for axis, (name, rows) in zip(axes.flat, panels.items(), strict=True):
        labels = [" ".join(str(value) for value in row.values() if isinstance(value, str)) for row in rows]
        if name == "pickers":
            labels = [f"{label} {row['endpoints']}" for label, row in zip(labels, rows, strict=True)]
        axis.barh(labels, [row.get("ratio", row.get("wall")) for row in rows])
        axis.invert_yaxis()
        axis.set_title(BENCHMARKS[name][0])
        axis.set_xlabel("times the yardstick")
        if name == "guard":
            axis.set_xscale("log")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
