"""`streamer models`: what there is, what it is, and its weights."""

from __future__ import annotations

import argparse

from rich.markup import escape
from rich.table import Table

from engines.errors import ManifestError
from engines.manifest import Manifest, find, names
from engines.zoo import find_local, locate
from streamer.cli import DONE
from streamer.cli.console import fetching, note, stdout
from streamer.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list the models that come with the streamer")
    listing.set_defaults(job=list_models)
    for verb, job, text in (
        ("show", show, "show all that is known about a model"),
        ("pull", pull, "fetch its weights"),
    ):
        command = verbs.add_parser(verb, help=text)
        command.add_argument("model", metavar="MODEL", help="a name from `streamer models list`, or a manifest's path")
        command.set_defaults(job=job)


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


def show(args: argparse.Namespace) -> int:
    manifest = _find(args.model)
    weights = manifest.weights.onnx
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


def pull(args: argparse.Namespace) -> int:
    manifest = _find(args.model)
    before = find_local(manifest)
    try:
        path = locate(manifest, progress=fetching)
    finally:
        fetching.close()
    note("fetched and checked" if before is None else "was here already, checked")
    print(path)  # noqa: T201 - the result: a script may read it
    return DONE


def _find(model: str) -> Manifest:
    try:
        return find(model)
    except ManifestError as error:
        raise InputError(str(error)) from error
