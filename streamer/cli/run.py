"""`streamer run`: cameras in, results out, until the sources end or somebody says stop."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from streamer import config
from streamer.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, complain
from streamer.cli.console import fetching, note
from streamer.cli.signals import DEADLINE, Runner, signals
from streamer.errors import InputError, SourceError, SourceUnusable
from streamer.exporters.terminal import LiveTable
from streamer.exporters.ticker import exporting
from streamer.reload import Reloader, obeying, watching
from streamer.service import Hosting, Phase, Service
from streamer.sinks.files import Existing
from streamer.stats import Stats
from streamer.systemd import Notifier, Watchdog

_CLOSING = 3.0  # seconds, beside `limits.drain`, that everything may take to close

Company = Callable[[Service], AbstractContextManager[object]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE.yaml")
    add_overrides(parser)
    parser.add_argument("--name", help="under which it answers control messages (default: that of the file)")
    parser.add_argument("--no-watch", action="store_true", help="do not apply edits of the file; SIGHUP still does")
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
    notifier = Notifier()
    host = replace(hosting(args.name or args.pipeline.stem), phase=partial(_notify, notifier))
    with signals(reloads=True) as runner:
        outcome = stream(settings, runner, host, lambda service: _company(service, args, runner.reload, notifier))
    return exit_code(outcome, runner.signal)


def hosting(name: str, existing: Existing = "append") -> Hosting:
    """Put on the terminal what is said in passing; *existing* is what becomes of output files that hold something."""
    return Hosting(name, existing, fetching, note)


@contextmanager
def _company(service: Service, args: argparse.Namespace, asked: threading.Event, notifier: Notifier) -> Iterator[None]:
    """Keep the pipeline and its file together, and its supervisor informed."""
    watchdog = Watchdog(notifier)

    def beat(stats: Stats) -> None:
        watchdog.beat(service.health(), stats)

    reloader = Reloader(args.pipeline, args.set, service.apply, note, partial(_reloading, service, notifier))
    with ExitStack() as stack:
        stack.enter_context(obeying(reloader, asked))
        if not args.no_watch:
            stack.enter_context(watching(reloader))
        if notifier.listened_to:
            stack.enter_context(exporting(service.stats, beat))
        yield


def _notify(notifier: Notifier, phase: Phase) -> None:
    if phase == "started":
        notifier.ready()
    else:
        notifier.stopping()


@contextmanager
def _reloading(service: Service, notifier: Notifier) -> Iterator[None]:
    """Tell of a reload, but only between start and end: that it is over is told in the words of the start."""
    if not service.started.is_set() or service.ending.is_set():
        yield
        return
    notifier.reloading()
    yield
    notifier.ready()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    stats: Stats
    failures: Mapping[str, SourceError]


def alone(service: Service) -> AbstractContextManager[object]:  # noqa: ARG001 - as any `Company`
    """Do nothing beside a pipeline that runs."""
    return nullcontext()


def stream(settings: config.Pipeline, runner: Runner, host: Hosting, company: Company = alone) -> Outcome:
    """Open everything that *settings* name, run it with a live table and in *company*, and close it."""
    runner.deadline = max(DEADLINE, settings.limits.drain + _CLOSING)
    with ExitStack() as stack:
        service = stack.enter_context(Service(settings, host))
        runner.sinks = service.sinks
        table = stack.enter_context(LiveTable())
        stack.enter_context(exporting(service.stats, table.export))
        stack.enter_context(company(service))
        runner.run(service)
    return Outcome(service.stats(), service.pipeline.failures)


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
