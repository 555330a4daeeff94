"""`streamer eval`: how good a model is, measured against the truth. A module for each kind of model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import get_args

from engines.boxes import NmsKind
from engines.classical import METHODS
from engines.manifest import Task
from engines.runtimes import BACKENDS
from streamer.cli.models.named import find_model
from streamer.cli.models.options import PRECISIONS, add_measured, positive
from streamer.errors import InputError

_TASKS: Mapping[Task, str] = {"detect": "objects", "segment": "objects", "flow": "flow", "recognise": "actions"}
_NMS_KINDS: tuple[NmsKind, ...] = get_args(NmsKind)

# What only some kinds of models take.
_OWN: Mapping[str, Sequence[str]] = {
    "objects": ("coco", "images", "confidence", "nms", "iou", "candidates", "masks", "plot", "found"),
    "flow": ("flow", "baselines", "paint"),
    "actions": ("clips", "views", "flow_model", "plot"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"a name from `streamer models list`, or a manifest's path; for flow also {' or '.join(METHODS)}",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N images or pairs; of videos N, evenly spread"
    )
    parser.add_argument("--runtime", choices=list(BACKENDS), help="on which (default: the best one here)")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="in which (default: %(default)s)")
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images, pairs or clips at a time (default: 8, or fewer)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw precision over recall, or of actions what is taken for what"
    )
    add_measured(parser)
    _add_objects(parser.add_argument_group("detectors and segmenters"))
    _add_flow(parser.add_argument_group("optical flow"))
    _add_actions(parser.add_argument_group("actions"))
    parser.set_defaults(job=partial(evaluate, parser))


def _add_objects(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--coco", type=Path, metavar="FILE.json", help="the truth: COCO annotations")
    group.add_argument("--images", type=Path, metavar="DIR", help="where the annotations' images are")
    group.add_argument("--masks", choices=["auto", "no"], default="auto", help="no: measure only a segmenter's boxes")
    group.add_argument("--found", type=Path, metavar="FILE.json", help="write what was found, as COCO results")
    group.add_argument(
        "--confidence",
        type=_share,
        default=0.001,
        metavar="0..1",
        help="what counts as found (default: %(default)s, for average precision ranks objects, the doubtful included)",
    )
    group.add_argument("--nms", choices=_NMS_KINDS, default="hard", help="what suppresses (default: %(default)s)")
    group.add_argument("--iou", type=_share, metavar="0..1", help="of suppression (default: the model's own)")
    group.add_argument(
        "--candidates",
        type=positive,
        default=1000,
        metavar="N",
        help="boxes that leave the graph of a one-stage network, for the usual few hundred leave out doubtful ones; a "
        "graph or engine of its own is made for it, once (default: %(default)s)",
    )


def _add_flow(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--flow",
        type=Path,
        metavar="DIR",
        help="frames and the true flow between them: side by side as frame_0010.png, frame_0011.png and frame_0010.flo "
        "or frame_0010_flow.npz; Sintel's training/clean or training/final; KITTI's training; or a .csv with the "
        "columns before, after, truth",
    )
    group.add_argument(
        "--baselines",
        choices=["yes", "no"],
        default="yes",
        help="whether to measure what OpenCV finds, too (default: %(default)s)",
    )
    group.add_argument("--paint", type=Path, metavar="DIR", help="paint each frame, its true flow and what was found")


def _add_actions(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--clips",
        type=Path,
        metavar="DIR",
        help="videos in folders named by label; or a .csv with the columns path, label",
    )
    group.add_argument(
        "--views",
        type=positive,
        default=10,
        metavar="N",
        help="clips of a video, evenly spread, whose scores are averaged (default: %(default)s)",
    )
    group.add_argument(
        "--flow-model",
        metavar="MODEL",
        help=f"what finds the flow that a model looks at (default: {METHODS[0]})",
    )


def evaluate(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Measure as the model's task asks."""
    model = args.model if args.model in METHODS else find_model(args.model)
    kind = "flow" if isinstance(model, str) else _TASKS[model.task]
    if foreign := [f"--{name.replace('_', '-')}" for name in _foreign(kind) if _is_given(parser, args, name)]:
        measured = {"objects": "finds objects", "flow": "finds flow", "actions": "recognises actions"}[kind]
        raise InputError(f"{args.model} {measured}, and is not measured with {' and '.join(foreign)}: leave that out")
    code: int = import_module(f"streamer.cli.eval.{kind}").evaluate(model, args)
    return code


def _foreign(kind: str) -> list[str]:
    names = dict.fromkeys(name for others in _OWN.values() for name in others)
    return [name for name in names if name not in _OWN[kind]]


def _is_given(parser: argparse.ArgumentParser, args: argparse.Namespace, name: str) -> bool:
    return bool(getattr(args, name) != parser.get_default(name))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value
