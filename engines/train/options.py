"""The words of the command line, which the records of trainings are read by as well."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from engines.train.plan import PACE, Optimiser, Plan

_ABOUT = "Teach a network, and leave a model that streams. Exit code 3: it was stopped before the end."
_DATA = (
    "world (the default); for detectors coco:ANNOTATIONS.json,IMAGES, and two more to be measured by; for flow flo:DIR"
    "; for actions clips:DIR, with a folder for each label"
)
_COUNTS = {  # and how many they are at least
    "steps": 1, "batch": 1, "warmup": 0, "seed": 0, "workers": 0, "log-every": 1, "evaluate-every": 1, "save-every": 1
}  # fmt: skip
_NUMBERS = {"lr": math.inf, "floor": 1.0, "weight-decay": math.inf, "ema": 1.0, "clip": math.inf}  # and their most
_EXAMPLE = "python -m engines.train yolox-nano --data coco:annotations/train.json,images --out runs/mine"


def parser() -> argparse.ArgumentParser:
    """Make what reads the command line; what is left out is None, and up to the model."""
    parser = argparse.ArgumentParser("python -m engines.train", description=_ABOUT, epilog=f"example: {_EXAMPLE}")
    parser.add_argument("model", help="name of a model, or path of a manifest with your own labels")
    parser.add_argument("--data", default="world", help=_DATA)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, curves and the finished model")
    parser.add_argument("--resume", action="store_true", help="go on with the training in the folder")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--start", type=Path, metavar="WEIGHTS", help="begin with the weights of a state dict")
    begin.add_argument("--body", type=Path, metavar="WEIGHTS", help="the same, but only what fits by name and shape")
    parser.add_argument("--key", help="where in that file the state dict is, such as model")
    parser.add_argument("--export", action="store_true", help="export the folder's weights, and train nothing")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of forward passes")
    parser.add_argument("--optimiser", choices=get_args(Optimiser))
    parser.add_argument("--device", help="cpu, cuda, cuda:1")
    for name, least in _COUNTS.items():
        parser.add_argument(f"--{name}", type=_count(least), metavar="N")
    parser.add_argument(
        "--size",
        type=_count(1),
        nargs=2,
        metavar=("H", "W"),
        help="of images while it learns (default: as it is served)",
    )
    for name, most in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=_number(most), metavar="X")
    return parser


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return count


def _number(most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)  # argparse has words for what is none
        if not (math.isfinite(value) and 0 <= value <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {'from 0 on' if most > 1 else 'between 0 and 1'}")
        return value

    return number


def begun_with(told: argparse.Namespace) -> list[str]:
    """Write down which weights a training begins with; none is at random."""
    words = []
    for name in ("start", "body"):
        if (path := getattr(told, name)) is not None:
            words += [f"--{name}", f"{path.resolve().parent.name}/{path.name}"]
    return [*words, "--key", told.key] if told.key is not None else words


def command(told: argparse.Namespace, plan: Plan, begun: Sequence[str] = ()) -> str:
    """Write down what makes the same weights again, whatever suits the model later; folders by name."""
    words = ["python", "-m", "engines.train", told.model, "--data", told.data, "--out", told.out.name, *begun]
    for name, value in asdict(plan).items():
        if name not in PACE and value is not None:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)
