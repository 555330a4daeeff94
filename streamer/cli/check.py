"""`streamer check`: everything a pipeline needs, opened once, each with its verdict."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
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
from streamer.config.shapes import lies_outside
from streamer.errors import SourceUnusable, StreamerError
from streamer.events import ignore
from streamer.exporters.http import serving
from streamer.health import STARTING
from streamer.stats import Stats
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
        sizes: dict[str, tuple[int, int]] = {}
        verdicts = [*_cameras(settings, sizes)]
        verdicts += [*_nodes(settings), *_shapes(settings, sizes), *_sinks(settings)]
        verdicts += [*_monitor(settings), *_memory(settings, sizes)]
    table = Table("", "what", "name", "found", box=None, pad_edge=False)
    for v in verdicts:
        table.add_row("[green]ok[/]" if v.good else "[red]FAULT[/]", v.what, escape(v.name), escape(v.detail))
    stdout.print(table)
    return DONE if all(v.good for v in verdicts) else WRONG_INPUT


def _cameras(settings: config.Pipeline, sizes: dict[str, tuple[int, int]]) -> Iterator[Verdict]:
    """Open each camera, and put the size of its pictures, width and height, into *sizes*."""
    if not settings.cameras:
        yield Verdict("camera", "", "there are none: enough for process; run needs one", good=True)
    for name, camera in settings.cameras.items():
        where = redact(camera.url) or "a GStreamer pipeline"
        try:
            began = time.monotonic()
            width, height = sizes[name] = _first_picture(name, camera)
            took = f"{width} x {height} after {time.monotonic() - began:.1f} s"
            yield Verdict("camera", name, f"{took} from {where}", good=True)
        except StreamerError as error:
            yield Verdict("camera", name, str(error), good=False)


def _first_picture(name: str, camera: config.Camera) -> tuple[int, int]:
    (source,) = build.make_sources({name: camera}, ignore)
    with source.open() as frames:
        for first in frames:
            height, width, _ = first.to_rgb().shape
            return width, height
    raise SourceUnusable("it ends before its first frame; check its URL")


def _monitor(settings: config.Pipeline) -> Iterator[Verdict]:
    """Find out whether the address of the figures is free."""
    if settings.monitor.http is None:
        return
    name = "{}:{}".format(*settings.monitor.http)
    try:
        with serving(settings.monitor.http, lambda: Stats(time.time()), lambda: STARTING):
            yield Verdict("monitor", name, "can be served", good=True)
    except StreamerError as error:
        yield Verdict("monitor", name, str(error), good=False)


def _memory(settings: config.Pipeline, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Verdict]:
    """Say what the bounds of all buffers come to."""
    if sizes:
        opened = {name: settings.cameras[name] for name in sizes}
        live = {source.camera: source.live for source in build.make_sources(opened, ignore)}
        yield Verdict("memory", "frames", str(build.frame_memory(settings, sizes, live)), good=True)


def _shapes(settings: config.Pipeline, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Verdict]:
    """Find lines and polygons in pixels that some camera has not."""
    for node, shape, points in ((n, *each) for n, told in settings.nodes.items() for each in told.shapes().items()):
        for camera, size in sizes.items():
            if lies_outside(points, size):
                where = f"{shape} lies outside the {size[0]} x {size[1]} pixels of {camera}: correct its points"
                yield Verdict("node", node, where, good=False)


def _nodes(settings: config.Pipeline) -> Iterator[Verdict]:
    """Open the graph and push one black picture through it, so that the first real one meets no surprise."""
    try:
        goal = build.goal_of(build.make_sources(settings.cameras, ignore))  # the engines are then those `run` opens
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
