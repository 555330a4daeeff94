"""`streamer models list`: the models that come with the streamer; with --engines, what has been built of them."""

from __future__ import annotations

import argparse

from rich.markup import escape
from rich.table import Table

from engines.manifest import find, names
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
        height, width = manifest.preprocess.size
        here = find_local(manifest)
        state = "not here; `streamer models pull` fetches them" if here is None else escape(str(here))
        table.add_row(name, manifest.task, f"{width} x {height}", str(len(manifest.labels)), state)
    stdout.print(table)
    return DONE


def list_engines(_args: argparse.Namespace) -> int:
    from engines.build.cache import EngineCache
    from streamer.cli.models.engines import print_engines  # what builds engines takes a while to import

    print_engines(EngineCache())
    return DONE
