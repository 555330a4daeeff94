"""`streamer models pull`: fetch a model's weights."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from engines.errors import WeightsError
from engines.manifest import Manifest
from engines.zoo import find_local, locate
from streamer.cli import DONE
from streamer.cli.console import fetching, note
from streamer.cli.models.named import add_model, find_model, find_parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.set_defaults(job=pull)


def pull(args: argparse.Namespace) -> int:
    try:
        faults = list(_pull(find_parts(find_model(args.model))))
    finally:
        fetching.close()
    if faults:
        raise WeightsError("\n".join(map(str, faults)))
    return DONE


def _pull(parts: Sequence[Manifest]) -> Iterator[WeightsError]:
    """Fetch what can be fetched, and give the faults of the rest: of two streams, one may be there for the asking."""
    for part in parts:
        before = find_local(part)
        try:
            path = locate(part, progress=fetching)
        except WeightsError as error:
            yield error
            continue
        done = "fetched and checked" if before is None else "was here already, checked"
        note(f"{part.name}: {done}" if len(parts) > 1 else done)
        print(path)  # noqa: T201 - the result: a script may read it
