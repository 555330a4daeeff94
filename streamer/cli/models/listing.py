"""`streamer models list`: the models that come with the streamer; with --engines, what has been built of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from engines.manifest import Manifest, find, find_streams, names
from engines.zoo import find_local
from streamer.cli import DONE
from streamer.cli.console import stdout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines",
        action="store_const",
        dest="job",
        const=list_engines,
        help="list the engines that are cached here instead: for what, how old, and whether they can still be used",
    )
    parser.set_defaults(job=list_models)


def list_models(_args: argparse.Namespace) -> int:
    table = Table("model", "task", "input", "classes", "weights", box=None, pad_edge=False)
    for name in names():
        manifest = find(name)
        parts = find_streams(manifest)
        classes = str(len(manifest.labels)) if manifest.labels else ""
        table.add_row(name, manifest.task, _input(parts), classes, escape(_weights(parts)))
    stdout.print(table)
    return DONE


def _input(parts: Sequence[Manifest]) -> str:
    """Width, height and, where several are looked at, how many images or samples."""
    height, width = parts[0].preprocess.size
    lengths = [part.clip.length for part in parts if part.clip] or [2 if parts[0].task == "flow" else 1]
    return " x ".join(map(str, (width, height, *((max(lengths),) if max(lengths) > 1 else ()))))


def _weights(parts: Sequence[Manifest]) -> str:
    if len(parts) > 1:
        return " and ".join(f"{part.name} ({'here' if find_local(part) else 'not here'})" for part in parts)
    (part,) = parts
    if (path := find_local(part)) is not None:
        return str(path)
    if part.weights.file.url:
        return "not here; `streamer models pull` fetches them"
    return f"not here; `streamer models show {part.name}` says how to get them"


def list_engines(_args: argparse.Namespace) -> int:
    from engines.build.cache import EngineCache
    from streamer.cli.models.engines import print_engines  # what builds engines takes a while to import

    print_engines(EngineCache())
    return DONE
