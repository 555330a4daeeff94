"""What `streamer eval` measures of objects, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from engines.metrics import coco, voc
from engines.metrics.coco import Evaluation, Kind
from engines.metrics.segmentation import IGNORED, Confusion, Figures, paint
from engines.metrics.truth import Annotation, Found, Picture, Truth
from engines.rle import decode
from engines.types import Bool, Int
from streamer.cli.eval.tables import cell, table

_FIGURES = {
    "ap": "AP 0.50:0.95",
    "ap50": "AP 0.50",
    "ap75": "AP 0.75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar1": "AR, best 1",
    "ar10": "AR, best 10",
    "ar100": "AR, best 100",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}
_VOC_FIGURES = {"ap_11_points": "VOC AP, 11 points", "ap_all_points": "VOC AP, all points"}
_PIXEL_FIGURES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
}


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What the labels of pixels are worth: of objects from a confidence on, the most confident on top."""

    confidence: float
    figures: Figures
    names: tuple[str, ...]  # of its classes, the background first


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """All that was measured."""

    coco: Mapping[Kind, Evaluation]  # of boxes, and of masks where there are some
    voc: voc.Evaluation
    pixels: Pixels | None


def measure(truth: Truth, found: Mapping[int, Found], sure: float) -> Measured:
    """Measure boxes, and where there are masks, these too; pixels are labelled by objects of confidence *sure*."""
    masks = all(each.masks is not None for each in found.values())
    kinds: tuple[Kind, ...] = ("boxes", "masks") if masks else ("boxes",)
    evaluations = {kind: coco.evaluate(truth, found, kind) for kind in kinds}
    return Measured(evaluations, voc.evaluate(truth, found), _pixels(truth, found, sure) if masks else None)


def _pixels(truth: Truth, found: Mapping[int, Found], sure: float) -> Pixels:
    labels = {category: i for i, category in enumerate(sorted(truth.categories), 1)}
    confusion = Confusion(1 + len(labels))
    objects: dict[int, list[Annotation]] = {picture.id: [] for picture in truth.pictures}
    for each in truth.annotations:
        objects[each.picture].append(each)
    for picture in truth.pictures:
        confusion.add(_true_map(picture, objects[picture.id], labels), _found_map(picture, found, labels, sure))
    return Pixels(sure, confusion.figures(), ("background", *(truth.categories[category] for category in labels)))


def _true_map(picture: Picture, objects: list[Annotation], labels: Mapping[int, int]) -> Int:
    """Paint the largest first, as small objects lie before large ones; crowds first of all, and they do not count."""
    order = sorted(objects, key=lambda each: (not each.crowd, -each.area))
    return paint(
        ((IGNORED if each.crowd else labels[each.category], decode(each.segmentation)) for each in order), picture.size
    )


def _found_map(picture: Picture, found: Mapping[int, Found], labels: Mapping[int, int], sure: float) -> Int:
    return paint(_surest_last(found[picture.id], labels, sure), picture.size)


def _surest_last(found: Found, labels: Mapping[int, int], sure: float) -> Iterator[tuple[int, Bool]]:
    objects, masks = found.objects, found.masks or ()
    for row in np.argsort(objects.confidence, kind="stable").tolist():
        if objects.confidence[row] > sure:
            yield labels[int(objects.class_id[row])], decode(masks[row])


def tables(measured: Measured) -> Iterator[Table]:
    """Lay out classes first, for the figures of all are what is looked for at the end."""
    yield _classes(measured)
    yield _summary(measured)
    if measured.pixels:
        yield _pixel_table(measured.pixels)


def _classes(measured: Measured) -> Table:
    titles = ["objects", *(f"{kind} {name}" for kind in measured.coco for name in ("AP", "AP50")), "VOC AP"]
    made = table("class", *titles)
    by_kind = [evaluation.classes for evaluation in measured.coco.values()]
    for *each, theirs in zip(*by_kind, measured.voc.classes, strict=True):
        if each[0].objects:
            cells = [cell(value) for told in each for value in (told.ap, told.ap50)]
            made.add_row(escape(each[0].name), str(each[0].objects), *cells, cell(theirs.ap_all_points))
    return made


def _summary(measured: Measured) -> Table:
    made = table("all classes", *measured.coco)
    for key, title in _FIGURES.items():
        made.add_row(title, *(cell(getattr(each.summary, key)) for each in measured.coco.values()))
    for key, title in _VOC_FIGURES.items():
        made.add_row(title, cell(getattr(measured.voc, key)))
    return made


def _pixel_table(pixels: Pixels) -> Table:
    made = table(f"pixels, confidence over {pixels.confidence:g}", "")
    for key, title in _PIXEL_FIGURES.items():
        made.add_row(title, cell(getattr(pixels.figures, key)))
    return made


def told(measured: Measured) -> dict[str, Any]:
    """Say all of it as JSON can."""
    out: dict[str, Any] = {str(kind): _evaluation(each) for kind, each in measured.coco.items()}
    out["voc"] = asdict(measured.voc)
    if measured.pixels:
        out["pixels"] = _pixel_figures(measured.pixels)
    return out


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    there = [i for i, each in enumerate(evaluation.classes) if each.objects]
    precision = evaluation.precision[there].mean(axis=0)
    return {
        **asdict(evaluation.summary),
        "classes": [asdict(each) for each in evaluation.classes],
        "precision_over_recall": {
            "recall": np.linspace(0, 1, 101).round(2).tolist(),
            "iou_50": precision[0].tolist(),
            "iou_75": precision[5].tolist(),
            "iou_50_to_95": precision.mean(axis=0).tolist(),
        },
    }


def _pixel_figures(pixels: Pixels) -> dict[str, Any]:
    figures = pixels.figures
    of_classes = (figures.class_accuracy, figures.iou, figures.dice)
    columns = zip(pixels.names, *(each.tolist() for each in of_classes), strict=True)
    return {
        "confidence": pixels.confidence,
        **{key: getattr(figures, key) for key in _PIXEL_FIGURES},
        "classes": [
            {"name": name, "accuracy": accuracy, "iou": iou, "dice": dice} for name, accuracy, iou, dice in columns
        ],
    }
