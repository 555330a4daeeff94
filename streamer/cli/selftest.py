"""`streamer selftest`: does this installation still give right results? A table, and an exit code for scripts."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engines.runtimes import BACKENDS
from streamer.cli import DONE, FAILED, complain
from streamer.cli.console import note, stdout
from streamer.cli.models.options import PRECISIONS
from streamer.errors import InputError

if TYPE_CHECKING:  # what measures needs packages that may not be here
    from streamer.selftest.rows import Report, Row

_WIDTH = 140  # of the table in a file
_MEASURING = ("pycocotools", "motrics")
_COLOURS = {"right": "green", "told": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime", action="append", default=[], choices=list(BACKENDS), help="only this one (repeatable)"
    )
    parser.add_argument(
        "--precision", action="append", default=[], choices=PRECISIONS, help="only this one (repeatable)"
    )
    parser.add_argument(
        "--redis", default="redis://localhost:6379/0", metavar="URL", help="used when it answers; else one is embedded"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.set_defaults(job=selftest)


def selftest(args: argparse.Namespace) -> int:
    if lacking := [package for package in _MEASURING if not find_spec(package)]:
        raise InputError(f"the self-test measures with {' and '.join(lacking)}: pip install 'streamer[eval]'")
    from streamer.selftest import run
    from streamer.selftest.expected import read
    from streamer.selftest.quantised import with_int8

    plan = run.Plan(with_int8(args.runtime, args.precision), read())
    report = run.selftest(plan, args.redis, note)
    if args.json:
        print(json.dumps(report.told(), indent=2))  # noqa: T201 - the result: a script reads it
    else:
        _show(report)
    return DONE if report.good else FAILED


def _show(report: Report) -> None:
    titles = ("", "figure", "runtime", "precision", "measured", "expected", "FPS", "latency", "verdict")
    table = Table(box=None, pad_edge=False)
    for title in titles:
        figures = title in ("measured", "expected", "FPS", "latency")
        table.add_column(title, justify="right" if figures else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*_cells(row))
    wide = stdout if stdout.is_terminal else Console(width=_WIDTH, highlight=False)
    wide.print(table)
    for row in report.rows:
        if not row.good:
            complain(f"{row.what}, {row.figure}{_where(row)}: {row.why}")
    short = sum(not row.good for row in report.rows)
    verdict = f"{short} of {len(report.rows)} figures are not as they should be" if short else "all is right"
    stdout.print(f"{verdict}, after {report.seconds:.0f} s")


def _cells(row: Row) -> tuple[str, ...]:
    colour = _COLOURS.get(row.verdict, "red")
    return (
        escape(row.what),
        escape(row.figure),
        row.runtime,
        row.precision,
        _value(row.measured, row.unit),
        "" if row.expected is None else str(row.expected),
        "" if row.fps is None else f"{row.fps:.0f}",
        "" if row.latency_ms is None else f"{row.latency_ms:.0f} ms",
        f"[{colour}]{row.verdict}[/]",
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if float(value).is_integer() and unit in ("", "ms") else 2 if unit == "s" else 1
    return f"{value:.{digits}f} {unit}".rstrip()


def _where(row: Row) -> str:
    return f" in {row.runtime} {row.precision}" if row.runtime else ""
