"""`streamer models build`: an engine for this machine, or for others, before a pipeline needs it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from engines.build.base import Material, Profile
from engines.build.cache import EngineCache
from engines.build.graph import calibrated, material
from engines.build.obtain import obtain
from engines.errors import BuildError, RuntimeUnavailable
from engines.load import GRAPHS, HEEDS_GOALS, order_for, working
from engines.runtimes import BACKENDS
from engines.runtimes.base import Goal, RuntimeOptions
from streamer.cli import DONE
from streamer.cli.console import note
from streamer.cli.models.frames import read_frames
from streamer.cli.models.named import add_model, find_model
from streamer.cli.models.options import find_weights, opening
from streamer.config import Limits
from streamer.errors import InputError

_CALIBRATION_FRAMES = 128
_CALIBRATORS = ("onnxruntime", "pycocotools")
_GOALS: tuple[Goal, ...] = get_args(Goal)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--runtime", choices=list(BACKENDS), help="what the engine is for (default: the best that works)"
    )
    parser.add_argument("--precision", choices=["auto", "fp32", "fp16", "bf16", "int8"], default="auto")
    parser.add_argument(
        "--batch", type=_profile, default=Profile(1, 8, 8), metavar="N..M", help="rows: 8, 1..16, 1..4..16"
    )
    parser.add_argument(
        "--target", type=_targets, default=(), metavar="SM,…", help="GPUs of other machines: sm_86,sm_89"
    )
    parser.add_argument(
        "--goal", choices=_GOALS, help="latency is what `run` asks for, throughput `process` (default: both)"
    )
    parser.add_argument(
        "--calibrate", action="append", metavar="VIDEO", help="for int8: footage of your own (repeatable)"
    )
    parser.add_argument("--weights", type=Path, help="your own ONNX file or checkpoint instead of the model's")
    parser.set_defaults(job=build)


def build(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    with opening():
        bench = material(manifest, find_weights(manifest, args.weights), tell=note)
    if args.calibrate:
        _calibrate(bench, args)
    paths = _build_first(bench, args)
    for path in paths:
        print(path)  # noqa: T201 - the result: a script may read it
    if any(path.suffix == ".engine" for path in paths):  # a graph takes batches of any size
        _tell_use(args.batch)
    return DONE


@opening()
def _calibrate(bench: Material, args: argparse.Namespace) -> None:
    if args.precision != "int8":
        raise InputError("--calibrate is for --precision int8: add it, or leave --calibrate out")
    if lacking := [package for package in _CALIBRATORS if not find_spec(package)]:
        raise RuntimeUnavailable(f"calibrating needs {' and '.join(lacking)}: pip install 'streamer[build]'")
    from engines.build.accuracy import accuracy, sure_of  # pycocotools

    frames = read_frames(args.calibrate, _CALIBRATION_FRAMES)
    footage = f"{len(frames)} frames of {', '.join(args.calibrate)}"
    truth = sure_of(bench, frames)
    if not any(map(len, truth)):
        raise InputError(
            f"{bench.manifest.name} finds nothing in {footage}, so nobody could tell what int8 costs: calibrate on "
            "some that show what it is for"
        )
    note(f"calibrating on {footage}")
    recipe = calibrated(bench, frames, note)
    left = accuracy(bench, recipe, frames, truth)
    note(
        f"int8 costs {100 * (1 - left.ap):.1f} points of mAP on these {len(frames)} frames (0.50:0.95, in ONNX "
        f"Runtime, against the fp32 model's own detections); {100 * (1 - left.ap50):.1f} at IoU 0.50"
    )


def _tell_use(batch: Profile) -> None:
    """Say which pipelines will find the engine: they ask for batches of 1 to what their limits say."""
    if batch != Profile(1, batch.most, batch.most):
        note(f"no pipeline asks for batches of {batch}: for those of up to {batch.most} build --batch 1..{batch.most}")
    elif batch.most != Limits().batch:
        note(
            f"pipelines with `limits: {{batch: {batch.most}}}` will take it; without, they ask for 1..{Limits().batch}"
        )


@opening()
def _build_first(bench: Material, args: argparse.Namespace) -> list[Path]:
    """Build for the runtime that was named, else for the first that can be built for here."""
    if args.target and args.runtime not in (None, "tensorrt_rtx"):
        raise InputError("--target builds for other machines, which only --runtime tensorrt_rtx can do: leave one out")
    named = args.runtime or ("tensorrt_rtx" if args.target else None)
    names = [named] if named else _able(bench, args)
    *others, last = names
    for name in others:
        try:
            return _build(name, bench, args)
        except (RuntimeUnavailable, BuildError) as error:
            note(f"not for {name}: {error}")
    return _build(last, bench, args)


def _able(bench: Material, args: argparse.Namespace) -> list[str]:
    names = [name for name in working(RuntimeOptions(args.precision)) if args.precision in GRAPHS[name]]
    if not names:
        raise RuntimeUnavailable(f"no runtime here computes {bench.manifest.name} in {args.precision}: take another")
    return names


def _build(name: str, bench: Material, args: argparse.Namespace) -> list[Path]:
    goals = (args.goal,) if args.goal else _GOALS if name in HEEDS_GOALS else ("throughput",)
    options = [RuntimeOptions(args.precision, goal, args.batch.most) for goal in goals]
    orders = [replace(order_for(name, bench, each), profile=args.batch, targets=args.target) for each in options]
    return [obtain(bench, name, order, EngineCache(), note) for order in orders]


def _profile(text: str) -> Profile:
    try:
        return Profile.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _targets(text: str) -> tuple[str, ...]:
    return tuple(target.strip() for target in text.split(",") if target.strip())
