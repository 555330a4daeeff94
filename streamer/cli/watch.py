"""`streamer watch`: what a running pipeline publishes, live in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamer import client
from streamer.cli import DONE
from streamer.cli.console import note, stdout
from streamer.cli.where import add_redis
from streamer.errors import InputError
from streamer.exporters.table import plain, render, screenshot, troubles
from streamer.stats import (
    CameraStats,
    GpuStats,
    LatencyTarget,
    NodeStats,
    Percentiles,
    ProcessStats,
    SinkStats,
    Stats,
)
from streamer.urls import redact
from streamer.wire import Message, Metrics

_ROWS = 20  # detections shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", metavar="C", help="only this one, with what its newest message says")
    add_redis(parser)
    parser.add_argument("--save", type=Path, metavar="FILE.svg", help="save one picture of the table, and end")
    parser.set_defaults(job=watch)


def watch(args: argparse.Namespace) -> int:
    """Follow the figures that a pipeline publishes once a second, until Ctrl-C."""
    note(f"watching {redact(args.redis)}; a pipeline that runs shows up within a second")
    try:
        return _follow(args)
    except client.ClientError as error:  # Redis is not there, or refuses: once it was, the client waits for it
        raise InputError(str(error)) from error


def _follow(args: argparse.Namespace) -> int:
    with Live(console=stdout, auto_refresh=False) as live:
        for metrics in client.metrics(args.redis, prefix=args.prefix):
            stats = to_stats(metrics, args.camera)
            if args.save:
                _save(stats, args.save)
                break
            newest = client.latest(args.redis, camera=args.camera, prefix=args.prefix) if args.camera else None
            if stdout.is_terminal:
                live.update(Group(render(stats), *_items(newest)), refresh=True)
            else:
                for line in (*(plain(name, camera) for name, camera in stats.cameras.items()), *troubles(stats)):
                    stdout.print(line, markup=False, soft_wrap=True)
    return DONE


def _save(stats: Stats, path: Path) -> None:
    try:
        screenshot(stats, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def to_stats(metrics: Metrics, camera: str | None = None) -> Stats:
    """Turn what came over the wire into what the table draws; with *camera*, only that one."""
    return Stats(
        at=metrics.at,
        cameras={name: _camera(c.model_dump()) for name, c in metrics.cameras.items() if camera in (None, name)},
        sinks={name: _sink(sink.model_dump()) for name, sink in metrics.sinks.items()},
        queues=metrics.queues,
        batch_size=metrics.batch_size,
        latency=None if metrics.latency is None else LatencyTarget(**metrics.latency.model_dump()),
        nodes={name: NodeStats(**node.model_dump()) for name, node in metrics.nodes.items()},
        process=None if metrics.process is None else ProcessStats(**metrics.process.model_dump()),
        gpus={number: GpuStats(**gpu.model_dump()) for number, gpu in metrics.gpus.items()},
        busy=metrics.busy,
    )


def _camera(told: dict[str, Any]) -> CameraStats:
    return CameraStats(
        latency_ms=_percentiles(told.pop("latency_ms")),
        end_to_end_ms=_percentiles(told.pop("end_to_end_ms")),
        stages_ms={step: Percentiles(**of) for step, of in told.pop("stages_ms").items()},
        **told,
    )


def _sink(told: dict[str, Any]) -> SinkStats:
    return SinkStats(end_to_end_ms=_percentiles(told.pop("end_to_end_ms")), **told)


def _percentiles(told: dict[str, float] | None) -> Percentiles | None:
    return Percentiles(**told) if told else None


def _items(message: Message | None) -> list[RenderableType]:
    if message is None:
        return []
    table = Table("node", "label", "confidence", "box", "track", "regions", box=None, pad_edge=False)
    for node, result in message.results.items():
        for item in getattr(result, "items", ())[:_ROWS]:
            if hasattr(item, "box"):
                box = " ".join(f"{v:.0f}" for v in item.box)
                track = "" if item.track_id is None else str(item.track_id)
                table.add_row(node, item.label, f"{item.confidence:.2f}", box, track, ", ".join(item.regions or ()))
    return [Text(f"frame {message.seq} at {message.pts:.2f} s", "dim"), table]
