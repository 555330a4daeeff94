"""`streamer models clean`: remove engines, and the graphs they are made of, that nothing here can use any more."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engines.build import graphs
from engines.build.cache import EngineCache
from engines.build.graphs import GraphEntry, graphs_dir
from engines.build.upkeep import Doom, Inspector, Kept, every, remakable, unusable, unused
from streamer.cli import DONE
from streamer.cli.console import stdout
from streamer.cli.models.engines import megabytes, named

_LEFT = "a build that was killed has left it"
_AGE = re.compile(r"(\d+) *([dhm])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--all",
        action="store_true",
        help="remove all that is built again when it is needed: what was calibrated for int8 stays",
    )
    which.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="also remove those that were neither built nor used for so long, such as 30d or 12h",
    )
    parser.add_argument(
        "--dry-run", action="store_const", dest="job", const=show, help="remove nothing, only tell what would be"
    )
    parser.set_defaults(job=clean)


def clean(args: argparse.Namespace) -> int:
    cache, folder = EngineCache(), graphs_dir()
    engines, made = _doomed(cache, args), _doomed_graphs(folder, args)
    _print({**engines, **made})
    freed = cache.remove(engines) + graphs.remove(made)
    count = len(engines) + len(made)
    stdout.print(f"{count} removed, {megabytes(freed)} freed" if count else f"{cache.folder.parent} is clean")
    return DONE


def show(args: argparse.Namespace) -> int:
    doomed = {**_doomed(EngineCache(), args), **_doomed_graphs(graphs_dir(), args)}
    _print(doomed)
    stdout.print(f"{len(doomed)} would be removed" if doomed else "nothing would be removed")
    return DONE


def _doomed(cache: EngineCache, args: argparse.Namespace) -> dict[Path, str]:
    """List the engines' files to go, each with a line that says why."""
    dooms = [*([] if args.all else [unusable(Inspector())]), *_dooms(args)]
    found = {path: f"{path.name}: {_LEFT}" for path in cache.leftovers()}
    entries = cache.entries()
    for entry in entries:
        why = next(filter(None, (doom(entry) for doom in dooms)), None)
        if why and not cache.busy(entry.sidecar.label):
            found[entry.path] = f"{named(entry)}: {why}"
    kept = {e.sidecar.label.identity.version for e in entries if e.path not in found}
    gone = {
        path: f"{path.name}: no engine of this version is left" for path, v in cache.timings().items() if v not in kept
    }
    return found | gone


def _doomed_graphs(folder: Path, args: argparse.Namespace) -> dict[Path, str]:
    """List the served graphs to go, each with a line that says why; what was calibrated goes only when it is stale."""
    dooms: list[Doom[GraphEntry]] = [remakable(doom) for doom in _dooms(args)]
    dooms.append(unusable(Inspector().graph))
    found = {path: f"{path.name}: {_LEFT}" for path in graphs.leftovers(folder)}
    for entry in graphs.entries(folder):
        why = next(filter(None, (doom(entry) for doom in dooms)), None)
        if why:
            recipe = entry.origin.recipe
            found[entry.path] = f"{entry.path.name}, the graph of {entry.origin.model} in {recipe.precision}: {why}"
    return found


def _dooms(args: argparse.Namespace) -> list[Doom[Kept]]:
    if args.all:
        return [every]
    return [] if args.older_than is None else [unused(datetime.now(UTC) - args.older_than)]


def _print(doomed: dict[Path, str]) -> None:
    for line in doomed.values():
        stdout.print(line, markup=False, emoji=False, soft_wrap=True)


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 30d, 12h or 90m")
    return int(match[1]) * _UNITS[match[2]]
