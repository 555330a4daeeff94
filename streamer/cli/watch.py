"""`streamer watch`: what a running pipeline publishes, live in the terminal."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamer import client
from streamer.cli import DONE
from streamer.cli.console import note, stdout
from streamer.errors import InputError
from streamer.exporters.terminal import plain, render, screenshot
from streamer.stats import CameraStats, Percentiles, SinkStats, Stats
from streamer.urls import redact
from streamer.wire import Message, Metrics

_ROWS = 20  # detections shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", metavar="C", help="only this one, with what its newest message says")
    parser.add_argument(
        "--redis",
        default=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
        metavar="URL",
        help="default: $REDIS_URL, or redis://localhost:6379/0",
    )
    parser.add_argument("--save", type=Path, metavar="FILE.svg", help="save one picture of the table, and end")
    parser.add_argument("--prefix", default="streamer:", help="of the keys (default: %(default)s)")
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
                for name, camera in stats.cameras.items():
                    stdout.print(plain(name, camera), markup=False, soft_wrap=True)
    return DONE


def _save(stats: Stats, path: Path) -> None:
    try:
        screenshot(stats, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def to_stats(metrics: Metrics, camera: str | None = None) -> Stats:
    """Turn what came over the wire into what the table draws; with *camera*, only that one."""
    return Stats(
        metrics.at,
        {name: _camera(c.model_dump()) for name, c in metrics.cameras.items() if camera in (None, name)},
        {name: SinkStats(sink.error, sink.dropped) for name, sink in metrics.sinks.items()},
    )


def _camera(fields: dict[str, object]) -> CameraStats:
    latency = fields.pop("latency_ms")
    return CameraStats(**fields, latency_ms=Percentiles(**latency) if isinstance(latency, dict) else None)  # type: ignore[arg-type]  # checked when it was decoded


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
