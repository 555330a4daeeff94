"""--model NAME: one model by itself, without a pipeline file that says so."""

from __future__ import annotations

import argparse
import json

from engines.errors import ManifestError
from engines.manifest import find
from streamer import config
from streamer.errors import InputError


def add_model(parser: argparse.ArgumentParser, instead_of: str) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"run this model instead of {instead_of}: a name that `streamer models list` shows, or a manifest's path",
    )


def only(model: str) -> str:
    """Make the override by which a pipeline has one node, of the kind that the model is for. Raises InputError."""
    try:
        task = find(model).task
    except ManifestError as error:
        raise InputError("\n".join(f"--model: {line}" for line in str(error).splitlines())) from error
    kind = config.kind_for(task)
    if kind is None:
        raise InputError(f"--model: {model} is a model for {task}, which needs other nodes; write a pipeline file")
    return f"nodes={json.dumps({kind: {'kind': kind, 'model': model}})}"
