"""A model run over the images of a data set."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engines.boxes import Suppression
from engines.decoders import DetectOptions
from engines.load import Upkeep, open_detector
from engines.manifest import Manifest
from engines.masks import encode_masks
from engines.metrics.classes import Matching
from engines.metrics.truth import Found, Picture, Truth
from engines.model import Model
from engines.rle import Rle
from engines.runtimes.base import RuntimeOptions
from engines.types import Detections, Image
from streamer.cli.console import note
from streamer.cli.eval.dataset import read_image
from streamer.cli.models.options import opening
from streamer.exporters.terminal import ProcessProgress

Outline = Callable[[Picture, Detections], tuple[Rle, ...] | None]

_BATCH = 8
_AHEAD = 2  # batches that are under way: while the model works on one, the next is read


@opening()
def open_model(
    manifest: Manifest, weights: Path, matching: Matching, args: argparse.Namespace
) -> Model[Image, Detections]:
    """Open the model for all that it can find of the data set's classes. Raises InputError, WeightsError."""
    manifest = with_candidates(manifest, args.candidates)
    suppression = Suppression(args.nms, manifest.defaults.iou if args.iou is None else args.iou)
    wanted = DetectOptions(args.confidence, suppression, tuple(sorted(matching.categories)), args.candidates)
    batch = args.batch or min(_BATCH, manifest.batch or _BATCH)
    options = RuntimeOptions(args.precision, "throughput", batch, args.threads)
    return open_detector(manifest, weights, wanted, [args.runtime] if args.runtime else [], options, Upkeep(note))


def with_candidates(manifest: Manifest, count: int) -> Manifest:
    """Let at least so many boxes out of the graph, where the decoder chooses how many."""
    had = getattr(manifest.decoder, "candidates", None)
    if had is None or had >= count:
        return manifest
    return manifest.model_copy(update={"decoder": manifest.decoder.model_copy(update={"candidates": count})})


def without_masks(_picture: Picture, _objects: Detections) -> None:
    """Keep no masks."""


def with_masks(picture: Picture, objects: Detections) -> tuple[Rle, ...] | None:
    """Keep masks as run lengths of the whole image; None where the model gives none after all."""
    if objects.masks is None:
        return None
    return tuple(encode_masks(objects.masks, objects.xyxy, picture.size))


@dataclass(frozen=True, slots=True)
class Collector:
    """Keep what was found, with the data set's classes and what *outline* makes of masks."""

    matching: Matching
    outline: Outline

    def __call__(self, picture: Picture, objects: Detections) -> Found:
        categories = [self.matching.categories[each] for each in objects.class_id.tolist()]
        known = replace(objects, class_id=np.array(categories, np.int32), masks=None)
        return Found(known, self.outline(picture, objects))


def search(
    model: Model[Image, Detections], truth: Truth, folder: Path, keep: Callable[[Picture, Detections], Found]
) -> dict[int, Found]:
    """Find what is in every image, by its id, with a progress bar. Raises InputError, ModelError."""
    found = {}
    with ProcessProgress(1) as progress:
        progress.start(folder.resolve().name, frames=len(truth.pictures))
        for picture, objects in _searched(model, truth.pictures, folder):
            found[picture.id] = keep(picture, objects)
            progress.advance()
    return found


def _searched(
    model: Model[Image, Detections], pictures: Sequence[Picture], folder: Path
) -> Iterator[tuple[Picture, Detections]]:
    """Run the model on images in batches; the next is read while it works."""
    batch = model.runtime.max_batch
    under_way: deque[tuple[Sequence[Picture], Callable[[], list[Detections]]]] = deque()
    try:
        for start in range(0, len(pictures), batch):
            some = pictures[start : start + batch]
            under_way.append((some, model.begin([read_image(picture, folder) for picture in some])))
            if len(under_way) == _AHEAD:
                yield from _finished(*under_way.popleft())
        while under_way:
            yield from _finished(*under_way.popleft())
    finally:
        for _, finish in under_way:  # what was started is waited for before the model is closed
            finish()


def _finished(
    pictures: Sequence[Picture], finish: Callable[[], list[Detections]]
) -> Iterator[tuple[Picture, Detections]]:
    return zip(pictures, finish(), strict=True)
