"""`streamer models`: what there is, what it is, its weights, and the engines made of them. A file each verb."""

from __future__ import annotations

import argparse
from importlib import import_module

VERBS = {
    "list": "list the models, or with --engines what has been built of them",
    "show": "show all that is known about a model",
    "pull": "fetch its weights",
    "add": "make a manifest for an ONNX file of your own",
    "build": "build an engine for this machine, or with --target for others",
    "compare": "run the same frames through every runtime and precision, and compare what they give",
    "bench": "measure throughput and latency against batch size",
    "clean": "remove engines that nothing here can use any more",
}
_MODULES = {"list": "listing"}  # a name that Python has taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every verb; only the module of the one that is called is imported, so that each starts quickly."""
    words = parser.get_default("words")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in words:
            import_module(f"streamer.cli.models.{_MODULES.get(name, name)}").add_arguments(verb)
