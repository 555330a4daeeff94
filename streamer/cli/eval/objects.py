"""`streamer eval` of detectors and segmenters, against COCO annotations."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import RuntimeUnavailable
from engines.manifest import Manifest
from engines.metrics.truth import Found, Truth, xywh_of
from streamer.cli import DONE
from streamer.cli.console import note, stderr, stdout
from streamer.cli.eval.dataset import check_images, match_classes, read_truth
from streamer.cli.eval.search import Collector, Outline, open_model, search, with_masks, without_masks
from streamer.cli.models.options import check_writable, find_weights, opening, write_json
from streamer.errors import InputError

if TYPE_CHECKING:
    from streamer.cli.eval.report import Measured  # imports pycocotools


def evaluate(manifest: Manifest, args: argparse.Namespace) -> int:
    _check(args)
    truth = read_truth(args)
    matching = match_classes(manifest, truth, args.coco)
    check_images(truth, args.images)
    truth, outline = _outlines(manifest, truth, args)
    weights = find_weights(manifest, args.weights)
    with closing(open_model(manifest, weights, matching, args)) as model:
        description = model.runtime.description
        note(f"{manifest.name}: {description}")
        found = search(model, truth, args.images, Collector(matching, outline))
    from streamer.cli.eval.report import measure, tables, told  # pycocotools

    with stderr.status("measuring"):
        measured = measure(truth, found, manifest.defaults.confidence)
    for table in tables(measured):
        stdout.print(table)
        stdout.print()
    write_json(args.json, _result(manifest, description, truth, args) | told(measured))
    _write_found(args.found, found)
    _draw(args.plot, measured, f"{manifest.name} on {args.coco.name}, {len(truth.pictures)} images")
    return DONE


@opening()
def _check(args: argparse.Namespace) -> None:
    """Find out before minutes are spent what would be in the way at the end. Raises InputError."""
    needed = ["pycocotools", *(["matplotlib"] if args.plot else [])]
    if lacking := [package for package in needed if not find_spec(package)]:
        raise RuntimeUnavailable(f"measuring needs {' and '.join(lacking)}: pip install 'streamer[eval]'")
    for path in (args.json, args.plot, args.found):
        check_writable(path)


def _outlines(manifest: Manifest, truth: Truth, args: argparse.Namespace) -> tuple[Truth, Outline]:
    """Read the true masks and keep the found ones, where the model makes some and every object has one."""
    if manifest.task != "segment" or args.masks == "no":
        return truth, without_masks
    if bare := sum(each.segmentation is None for each in truth.annotations):
        note(f"{bare} of {len(truth.annotations)} objects have no segmentation, so only boxes are measured")
        return truth, without_masks
    from engines.metrics.outlines import traced

    try:
        return traced(truth), with_masks
    except ValueError as error:
        raise InputError(f"{args.coco}: {error}; correct it, or measure boxes alone with --masks no") from error


def _result(manifest: Manifest, description: str, truth: Truth, args: argparse.Namespace) -> dict[str, Any]:
    crowds = sum(each.crowd for each in truth.annotations)
    return {
        "model": manifest.name,
        "runtime": description,
        "annotations": str(args.coco),
        "images": len(truth.pictures),
        "objects": len(truth.annotations) - crowds,
        "crowds": crowds,
        "confidence": args.confidence,
        "nms": args.nms,
        "iou": manifest.defaults.iou if args.iou is None else args.iou,
        "candidates": args.candidates,
    }


def _draw(path: Path | None, measured: Measured, title: str) -> None:
    if path is None:
        return
    from engines.metrics.plot import plot  # matplotlib

    path.write_bytes(plot(measured.coco, title))
    note(f"drawn to {path}")


def _write_found(path: Path | None, found: Mapping[int, Found]) -> None:
    """Write COCO results, for whoever measures with another tool."""
    if path is None:
        return
    rows = [row for image, each in found.items() for row in _results(image, each)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    note(f"{len(rows)} objects written to {path}")


def _results(image: int, found: Found) -> Iterator[dict[str, Any]]:
    objects = found.objects
    columns = zip(xywh_of(objects).tolist(), objects.class_id.tolist(), objects.confidence.tolist(), strict=True)
    for row, (xywh, category, score) in enumerate(columns):
        told = {"image_id": image, "category_id": category, "bbox": xywh, "score": score}
        if found.masks is not None:
            rle = found.masks[row]
            told["segmentation"] = {"size": list(rle.size), "counts": rle.counts.decode("ascii")}
        yield told
