"""`streamer check`: everything a pipeline needs, opened once, each with its verdict."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from engines.errors import EngineError
from engines.load import Upkeep
from streamer import build, config
from streamer.cli import DONE, WRONG_INPUT
from streamer.cli.console import fetching, note, stdout
from streamer.cli.run import add_overrides
from streamer.errors import StreamerError
from streamer.events import ignore
from streamer.types import Frame, Packet
from streamer.urls import redact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE.yaml")
    add_overrides(parser)
    parser.set_defaults(job=check)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table."""

    what: str
    name: str
    detail: str
    good: bool


def check(args: argparse.Namespace) -> int:
    settings = config.read(args.pipeline, args.set)
    with stdout.status("opening sources, models and sinks"):
        verdicts = [*_cameras(settings), *_nodes(settings), *_sinks(settings)]
    table = Table("", "what", "name", "found", box=None, pad_edge=False)
    for v in verdicts:
        table.add_row("[green]ok[/]" if v.good else "[red]FAULT[/]", v.what, escape(v.name), escape(v.detail))
    stdout.print(table)
    return DONE if all(v.good for v in verdicts) else WRONG_INPUT


def _cameras(settings: config.Pipeline) -> Iterator[Verdict]:
    for name, camera in settings.cameras.items():
        where = redact(camera.url)
        try:
            yield Verdict("camera", name, f"{_first_picture(name, camera)} from {where}", good=True)
        except StreamerError as error:
            yield Verdict("camera", name, str(error), good=False)


def _first_picture(name: str, camera: config.Camera) -> str:
    began = time.monotonic()
    (source,) = build.make_sources({name: camera}, ignore)
    with source.open() as frames:
        height, width, _ = next(frames).to_rgb().shape
    return f"{width} x {height} after {time.monotonic() - began:.1f} s"


def _nodes(settings: config.Pipeline) -> Iterator[Verdict]:
    """Open the graph and push one black picture through it, so that the first real one meets no surprise."""
    goal = build.goal_of(build.make_sources(settings.cameras, ignore))  # the engines are then those that `run` opens
    try:
        with build.open_graph(settings, goal, fetching, Upkeep(note)) as graph:
            frame = Frame("check", 0, 0.0, time.time(), time.monotonic_ns(), np.zeros((360, 640, 3), np.uint8))
            packets = [Packet(frame)]
            for stage in graph.stages:
                began = time.monotonic()
                packets = list(stage.process(packets))
                spent = (time.monotonic() - began) * 1e3
                node = stage.writes.node
                what = f"{settings.nodes[node].summary()}: {graph.runtimes[node]}; first frame {spent:.0f} ms"
                yield Verdict("node", node, what, good=True)
    except (StreamerError, EngineError) as error:
        yield Verdict("node", ", ".join(settings.nodes), str(error), good=False)


def _sinks(settings: config.Pipeline) -> Iterator[Verdict]:
    for sink in settings.publish:
        try:
            yield Verdict("sink", sink.kind, build.check_sink(sink), good=True)
        except StreamerError as error:
            yield Verdict("sink", sink.kind, str(error), good=False)
