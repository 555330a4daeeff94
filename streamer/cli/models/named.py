"""The model that a verb is about, and the networks that it consists of."""

from __future__ import annotations

import argparse

from engines.errors import ManifestError
from engines.manifest import Manifest, find, find_streams
from engines.zoo import cache_dir
from streamer.errors import InputError


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a name from `streamer models list`, or a manifest's path")


def find_model(model: str) -> Manifest:
    """Find a manifest by name or path. Raises InputError: a wrong name is wrong input."""
    try:
        return find(model)
    except ManifestError as error:
        raise InputError(str(error)) from error


def find_parts(manifest: Manifest) -> list[Manifest]:
    """Find the networks of a model, mostly itself alone. Raises InputError: streams are named by whoever wrote it."""
    try:
        return find_streams(manifest)
    except ManifestError as error:
        raise InputError(str(error)) from error


def how_to_get(part: Manifest) -> str:
    """Say how the weights of a network that are not here get here."""
    weights = part.weights.file
    if weights.url:
        return f"`streamer models pull {part.name}` fetches them"
    where = f"put them to {cache_dir() / weights.file}"
    return f"get them from {weights.page} and {where}" if weights.page else f"bring your own, and {where}"
