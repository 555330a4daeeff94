"""`streamer run`: cameras in, results out, until the sources end or somebody says stop."""

from __future__ import annotations

import argparse
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from engines.load import Upkeep
from streamer import build, config
from streamer.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, complain
from streamer.cli.console import fetching, note
from streamer.cli.signals import Runner, signals
from streamer.errors import InputError, SourceError, SourceUnusable
from streamer.exporters.redis import RedisExporter
from streamer.exporters.terminal import LiveTable
from streamer.exporters.ticker import exporting
from streamer.monitor import Monitor
from streamer.pipeline import Pipeline
from streamer.sinks.files import Existing
from streamer.stats import Stats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE.yaml")
    add_overrides(parser)
    parser.set_defaults(job=run)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the file, such as nodes.yolo.confidence=0.5 (repeatable)",
    )


def run(args: argparse.Namespace) -> int:
    settings = config.read(args.pipeline, args.set)
    if not settings.cameras:
        raise InputError(f"{args.pipeline}: there are no cameras; add one, or --set cameras.NAME.url=…")
    with signals() as runner:
        outcome = stream(settings, runner)
    return exit_code(outcome, runner.signal)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    stats: Stats
    failures: dict[str, SourceError]


def stream(settings: config.Pipeline, runner: Runner, existing: Existing = "append") -> Outcome:
    """Open everything that *settings* name, run it with a live table, and close it.

    *existing* says what becomes of output files that hold something.
    """
    monitor = Monitor({name: facts.labels for name, facts in build.find_facts(settings).items()})
    sources = build.make_sources(settings.cameras, monitor)
    live = any(source.live for source in sources)
    goal = build.goal_of(sources)
    with ExitStack() as stack:
        # Cameras do not wait for an engine that is built anew; recordings can.
        beside = stack.enter_context(ThreadPoolExecutor(1, "engine")) if live else None
        graph = stack.enter_context(build.open_graph(settings, goal, fetching, Upkeep(note, beside)))
        for node, runtime in graph.runtimes.items():
            note(f"{node}: {runtime}")
        outlet = build.Outlet(graph.facts, tuple(settings.cameras), live, monitor, existing)
        sinks = stack.enter_context(build.open_sinks(settings.publish, outlet))
        runner.sinks = sinks
        pipeline = Pipeline(
            sources,
            graph.stages,
            sinks,
            build.make_limits(settings.limits),
            monitor,
            build.make_backoff(settings.cameras),
        )
        table = stack.enter_context(LiveTable())
        stack.enter_context(exporting(monitor.stats, table.export))
        for sink in settings.publish:
            if isinstance(sink, config.Redis):
                exporter = stack.enter_context(RedisExporter(sink.url, sink.prefix))
                stack.enter_context(exporting(monitor.stats, exporter.export))
        runner.run(pipeline)
    return Outcome(monitor.stats(), pipeline.failures)


def exit_code(outcome: Outcome, stopped_by: signal.Signals | None) -> int:
    """Say which cameras failed, and turn the outcome into an exit code."""
    for camera, error in outcome.failures.items():
        complain(f"{camera}: {error}")
    lost = {name: stats.lost for name, stats in outcome.stats.cameras.items() if stats.lost}
    for camera, count in lost.items():
        complain(f"{camera}: {count} frames could not be decoded and are missing from the results")
    if stopped_by is signal.SIGINT:
        return INTERRUPTED
    # Of a live camera some frames are always lost: that is in the figures, and no failure of a run that was stopped.
    if (lost and stopped_by is None) or any(not isinstance(e, SourceUnusable) for e in outcome.failures.values()):
        return FAILED
    return WRONG_INPUT if outcome.failures else DONE
