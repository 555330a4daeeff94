"""`streamer models clean`: remove engines that nothing here can use any more."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engines.build.cache import EngineCache
from engines.build.upkeep import Doom, Inspector, every, unusable, unused
from streamer.cli import DONE
from streamer.cli.console import stdout
from streamer.cli.models.engines import megabytes, named

_AGE = re.compile(r"(\d+) *([dhm])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="remove every engine; each is built again when it is needed")
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
    cache = EngineCache()
    doomed = _doomed(cache, args)
    _print(doomed)
    freed = cache.remove(doomed)
    stdout.print(f"{len(doomed)} removed, {megabytes(freed)} freed" if doomed else f"{cache.folder} is clean")
    return DONE


def show(args: argparse.Namespace) -> int:
    doomed = _doomed(EngineCache(), args)
    _print(doomed)
    stdout.print(f"{len(doomed)} would be removed" if doomed else "nothing would be removed")
    return DONE


def _doomed(cache: EngineCache, args: argparse.Namespace) -> dict[Path, str]:
    """List the files to go, each with a line that says why."""
    dooms = _dooms(args)
    found = {path: f"{path.name}: a build that was killed has left it" for path in cache.leftovers()}
    for entry in cache.entries():
        why = next(filter(None, (doom(entry) for doom in dooms)), None)
        if why and not cache.busy(entry.sidecar.label):
            found[entry.path] = f"{named(entry)}: {why}"
    return found


def _dooms(args: argparse.Namespace) -> list[Doom]:
    if args.all:
        return [every]
    old = [] if args.older_than is None else [unused(datetime.now(UTC) - args.older_than)]
    return [unusable(Inspector()), *old]


def _print(doomed: dict[Path, str]) -> None:
    for line in doomed.values():
        stdout.print(line, markup=False, emoji=False, soft_wrap=True)


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 30d, 12h or 90m")
    return int(match[1]) * _UNITS[match[2]]
