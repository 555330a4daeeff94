"""The model that a verb is about."""

from __future__ import annotations

import argparse

from engines.errors import ManifestError
from engines.manifest import Manifest, find
from streamer.errors import InputError


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a name from `streamer models list`, or a manifest's path")


def find_model(model: str) -> Manifest:
    """Find a manifest by name or path. Raises InputError: a wrong name is wrong input."""
    try:
        return find(model)
    except ManifestError as error:
        raise InputError(str(error)) from error
