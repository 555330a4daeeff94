"""`streamer models bench`: throughput and latency against batch size, as a table and a plot."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import get_args

from rich.table import Table

from engines.build.bench import Plan, Point, bench
from engines.build.trial import Subject, Variant, feeds_of
from engines.errors import RuntimeUnavailable
from engines.load import HEEDS_GOALS, Upkeep, open_on, working
from engines.manifest import Manifest
from engines.runtimes.base import Goal, Runtime, RuntimeOptions
from streamer.cli import DONE
from streamer.cli.console import note, stdout
from streamer.cli.models.named import add_model, find_model
from streamer.cli.models.options import (
    add_measured,
    batches,
    check_writable,
    find_weights,
    opening,
    positive,
    precisions,
    runtimes,
    write_json,
)
from streamer.sources.synthetic import World

_GOALS: tuple[Goal, ...] = get_args(Goal)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--batch", type=batches, default=[1, 2, 4, 8], metavar="1,2,4,8", help="the batch sizes")
    parser.add_argument("--runtime", type=runtimes, metavar="NAME,…", help="on which (default: the best one here)")
    parser.add_argument("--precision", type=precisions, default=["auto"], metavar="auto,fp32,…", help="in which")
    parser.add_argument("--goal", choices=_GOALS, help="what to tune for (default: both, one after the other)")
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns of each (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    add_measured(parser)
    parser.set_defaults(job=bench_model)


def bench_model(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    _check_plot(args.plot)
    check_writable(args.json)
    subject = Subject(manifest, find_weights(manifest, args.weights), max(args.batch), threads=args.threads)
    image = World(seed=1, size=(1280, 720)).render(0.0)
    with _opened(subject, _variants(args), args.goal) as opened:
        first = next(iter(opened.values()))
        feeds = [feeds_of(manifest, first, [image], rows) for rows in args.batch]
        with stdout.status(f"{args.rounds} rounds of {len(opened) * len(feeds)} measurements, in turns"):
            points = bench(opened, feeds, Plan(args.rounds))
        descriptions = {name: runtime.description for name, runtime in opened.items()}
    stdout.print(_table(points))
    write_json(args.json, _result(manifest, descriptions, points))
    _plot(points, manifest.name, args.plot)
    return DONE


def _variants(args: argparse.Namespace) -> list[Variant]:
    return [Variant(*pair) for pair in product(args.runtime or working(RuntimeOptions())[:1], args.precision)]


@contextmanager
def _opened(subject: Subject, variants: list[Variant], goal: Goal | None) -> Iterator[dict[str, Runtime]]:
    """Open every variant for every goal that makes a difference to it. Raises InputError, WeightsError."""
    with opening():
        bench_of = subject.material(note)
    with ExitStack() as stack:
        opened: dict[str, Runtime] = {}
        for variant in variants:
            for wanted in _goals(variant, goal):
                name = f"{variant}, {wanted}" if variant.runtime in HEEDS_GOALS else str(variant)
                options = replace(subject, goal=wanted).options(variant)
                with opening():
                    runtime = open_on(variant.runtime, bench_of, options, Upkeep(note))
                opened[name] = stack.enter_context(closing(runtime))
                note(f"{name}: {runtime.description}")
        yield opened


def _goals(variant: Variant, goal: Goal | None) -> tuple[Goal, ...]:
    if goal is not None:
        return (goal,)
    return _GOALS if variant.runtime in HEEDS_GOALS else ("throughput",)


def _table(points: list[Point]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("on", no_wrap=True)
    for title in ("batch", "ms p50", "ms p95", "frames/s", "spread", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for p in points:
        spread = f"{p.slowest:.0f}..{p.fastest:.0f}"
        row = (str(p.batch), f"{p.ms_p50:.2f}", f"{p.ms_p95:.2f}", f"{p.frames_per_s:.1f}", spread, f"{p.ratio:.2f}")
        table.add_row(p.name, *row)
    return table


def _result(manifest: Manifest, descriptions: Mapping[str, str], points: list[Point]) -> dict[str, object]:
    return {"model": manifest.name, "runtimes": dict(descriptions), "points": [asdict(point) for point in points]}


@opening()
def _check_plot(path: Path | None) -> None:
    """Find out before minutes are spent on what is to be drawn. Raises InputError."""
    if path is not None and find_spec("matplotlib") is None:
        raise RuntimeUnavailable("a plot needs matplotlib, which is not installed: pip install 'streamer[build]'")
    check_writable(path)


def _plot(points: list[Point], model: str, path: Path | None) -> None:
    if path is None:
        return
    from engines.build.plot import plot

    plot(points, f"{model}: throughput and latency against batch", path)
    note(f"drawn to {path}")
