"""`streamer eval` of models that recognise actions: top-1, top-5, and what is taken for what."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from engines.classical import METHODS, Method
from engines.errors import ManifestError, RuntimeUnavailable
from engines.load import Upkeep, open_recogniser
from engines.manifest import Manifest, find_streams
from engines.metrics.actions import TopK, top_k
from engines.motion import FlowModel
from engines.recognition import ClipSpec, Recogniser, clip_spec
from engines.runtimes.base import RuntimeOptions
from streamer.cli import DONE, FAILED
from streamer.cli.console import note, stdout
from streamer.cli.eval.flow import open_estimator
from streamer.cli.eval.sampling import Sampler
from streamer.cli.eval.scoring import Scored, score
from streamer.cli.eval.tables import cell, table
from streamer.cli.eval.videos import find_videos
from streamer.cli.models.named import find_model
from streamer.cli.models.options import check_writable, find_weights, opening, write_json
from streamer.errors import InputError

_BATCH = 8
_BEST = 5


def evaluate(manifest: Manifest, args: argparse.Namespace) -> int:
    _check(args)
    spec = _spec(manifest, args)
    videos = find_videos(args.clips, manifest.labels, args.limit)
    with ExitStack() as stack:
        flow = _open_flow(spec, args, stack)
        model = stack.enter_context(closing(_open(manifest, args)))
        note(f"{model.name}: {model.description}{f', flow by {flow.name}' if flow else ''}")
        scored = score(model, Sampler(spec, args.views, flow), videos, args.clips.resolve().name)
        facts = {"model": model.name, "runtime": model.description, "flow_model": flow.name if flow else None}
    if not scored.videos:
        raise InputError(f"none of the {len(videos)} videos of {args.clips} can be read, so nothing was measured")
    measured = top_k([each.class_id for each in scored.videos], np.stack(scored.probs))
    for made in (_classes(measured, manifest.labels), _summary(measured, len(scored.videos))):
        stdout.print(made)
        stdout.print()
    write_json(args.json, facts | _facts(args, scored) | _told(measured, manifest.labels, scored))
    _draw(args.plot, measured, manifest, args.clips)
    return DONE if scored.complete else FAILED


@opening()
def _check(args: argparse.Namespace) -> None:
    """Find out before minutes are spent what would be in the way at the end. Raises InputError."""
    if args.plot and not find_spec("matplotlib"):
        raise RuntimeUnavailable("drawing needs matplotlib: pip install 'streamer[eval]'")
    for path in (args.json, args.plot):
        check_writable(path)


def _spec(manifest: Manifest, args: argparse.Namespace) -> ClipSpec:
    """Learn what the model looks at. Raises InputError where it does not go with what was asked."""
    try:
        spec = clip_spec(manifest)
        streams = len(find_streams(manifest))
    except ManifestError as error:
        raise InputError(str(error)) from error
    if args.flow_model and "flow" not in spec.inputs:
        raise InputError(f"{manifest.name} looks at no flow: leave --flow-model out")
    if args.weights and streams > 1:
        raise InputError(f"{manifest.name} is {streams} networks, so one file is not its weights: leave --weights out")
    return spec


def _open_flow(spec: ClipSpec, args: argparse.Namespace, stack: ExitStack) -> FlowModel | None:
    if "flow" not in spec.inputs:
        return None
    return stack.enter_context(closing(open_estimator(_flow_model(args.flow_model or METHODS[0]), None, args)))


def _flow_model(name: str) -> Manifest | Method:
    method = next((each for each in METHODS if each == name), None)
    if method is not None:
        return method
    manifest = find_model(name)
    if manifest.task != "flow":
        raise InputError(f"{name} is a model that can {manifest.task}, not find flow: give --flow-model one that can")
    return manifest


@opening()
def _open(manifest: Manifest, args: argparse.Namespace) -> Recogniser:
    batch = args.batch or min(_BATCH, manifest.batch or _BATCH)
    options = RuntimeOptions(args.precision, "throughput", batch, args.threads)
    prefer = [args.runtime] if args.runtime else []
    return open_recogniser(manifest, lambda part: find_weights(part, args.weights), prefer, options, Upkeep(note))


# --- what is said ---


def _classes(measured: TopK, labels: Sequence[str]) -> Table:
    """Lay out the classes that some video truly shows."""
    made = table("class", "videos", "top-1", "most often taken for")
    for row in np.flatnonzero(measured.confusion.sum(1)).tolist():
        accuracy = cell(float(measured.class_accuracy[row]))
        made.add_row(escape(labels[row]), str(measured.confusion[row].sum()), accuracy, _mistake(measured, labels, row))
    return made


def _mistake(measured: TopK, labels: Sequence[str], row: int) -> str:
    others = measured.confusion[row].copy()
    others[row] = 0
    taken = int(others.argmax())
    return f"{escape(labels[taken])} ({others[taken]})" if others[taken] else ""


def _summary(measured: TopK, videos: int) -> Table:
    made = table(f"all {videos} videos", "")
    made.add_row("top-1", cell(measured.top1))
    made.add_row(f"top-{_BEST}", cell(measured.top5))
    made.add_row("mean class accuracy", cell(measured.mean_class_accuracy))
    return made


def _facts(args: argparse.Namespace, scored: Scored) -> dict[str, Any]:
    return {
        "clips": str(args.clips),
        "views": args.views,
        "videos": len(scored.videos),
        **{name: [str(path) for path in getattr(scored, name)] for name in ("short", "damaged", "unread")},
    }


def _told(measured: TopK, labels: Sequence[str], scored: Scored) -> dict[str, Any]:
    """Say all of it as JSON can; of the confusion only what happened."""
    shown = np.flatnonzero(measured.confusion.sum(1)).tolist()
    return {
        "top1": measured.top1,
        "top5": measured.top5,
        "mean_class_accuracy": measured.mean_class_accuracy,
        "classes": [
            {"name": labels[i], "videos": int(measured.confusion[i].sum()), "top1": float(measured.class_accuracy[i])}
            for i in shown
        ],
        "confusion": [
            {"label": labels[true], "taken_for": labels[taken], "videos": int(measured.confusion[true, taken])}
            for true, taken in np.argwhere(measured.confusion).tolist()
        ],
        "each": list(_each(labels, scored)),
    }


def _each(labels: Sequence[str], scored: Scored) -> Iterator[dict[str, Any]]:
    for video, views, probs in zip(scored.videos, scored.views, scored.probs, strict=True):
        best = np.argsort(-probs, kind="stable")[:_BEST].tolist()
        found = [{"label": labels[i], "score": float(probs[i])} for i in best]
        yield {"path": str(video.path), "label": labels[video.class_id], "views": views, "found": found}


def _draw(path: Path | None, measured: TopK, manifest: Manifest, clips: Path) -> None:
    if path is None:
        return
    from engines.metrics.plot_confusion import plot  # matplotlib

    total = measured.confusion.sum()
    title = f"{manifest.name} on {clips.name}, {total} videos: top-1 {measured.top1:.3f}, top-5 {measured.top5:.3f}"
    path.write_bytes(plot(measured.confusion, manifest.labels, title))
    note(f"drawn to {path}")
