"""`streamer models pull`: fetch a model's weights."""

from __future__ import annotations

import argparse

from engines.zoo import find_local, locate
from streamer.cli import DONE
from streamer.cli.console import fetching, note
from streamer.cli.models.named import add_model, find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.set_defaults(job=pull)


def pull(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    before = find_local(manifest)
    try:
        path = locate(manifest, progress=fetching)
    finally:
        fetching.close()
    note("fetched and checked" if before is None else "was here already, checked")
    print(path)  # noqa: T201 - the result: a script may read it
    return DONE
