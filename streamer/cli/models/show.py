"""`streamer models show`: all that is known about a model."""

from __future__ import annotations

import argparse

from rich.markup import escape
from rich.table import Table

from engines.zoo import find_local
from streamer.cli import DONE
from streamer.cli.console import stdout
from streamer.cli.models.named import add_model, find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.set_defaults(job=show)


def show(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    weights = manifest.weights.file
    height, width = manifest.preprocess.size
    pixels = manifest.preprocess
    rows = {
        "task": manifest.task,
        "architecture": " ".join(filter(None, (manifest.architecture, manifest.variant))),
        "input": f"{width} x {height}, {pixels.resize} ({pixels.align}), {pixels.channels.upper()}, "
        f"mean {pixels.mean}, std {pixels.std}",
        "decoder": ", ".join(f"{key} {value}" for key, value in manifest.decoder.model_dump().items()),
        "defaults": ", ".join(f"{key} {value}" for key, value in manifest.defaults.model_dump().items()),
        "weights": weights.file,
        "url": weights.url or "none",
        "sha256": weights.sha256 or "none",
        "licence": weights.licence or "not said",
        "on this machine": str(find_local(manifest) or f"no; `streamer models pull {manifest.name}` fetches them"),
        "classes": ", ".join(f"{i} {label}" for i, label in enumerate(manifest.labels)),
    }
    table = Table(show_header=False, box=None, pad_edge=False, title=manifest.name, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(key, escape(value))
    stdout.print(table)
    return DONE
