"""Mean average precision of detectors, as COCO defines it and its own evaluation computes it.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context", https://arxiv.org/abs/1405.0312
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.types import Array, Detections

_ANY_SIZE = [0.0, 1e10]  # pixels of area


@dataclass(frozen=True, slots=True)
class MeanAp:
    """Average precision, each in 0..1 and averaged over the classes of the truth; NaN where the truth is empty."""

    ap: float  # over IoU 0.50, 0.55 … 0.95
    ap50: float
    ap75: float


def mean_ap(truth: Sequence[Detections], found: Sequence[Detections], *, max_detections: int = 100) -> MeanAp:
    """Measure what was *found* in each image against its *truth*, class by class, boxes in source pixels.

    Of each image the *max_detections* most confident objects of a class count, as in COCO. Found objects of classes
    that no image truly has count nowhere. Raises ValueError when the images are not as many.
    """
    if len(truth) != len(found):
        raise ValueError(f"the truth has {len(truth)} images, but {len(found)} were searched")
    if not any(map(len, truth)):
        return MeanAp(float("nan"), float("nan"), float("nan"))
    precision = _precision(truth, found, max_detections)
    return MeanAp(*(_mean(part) for part in (precision, precision[0], precision[5])))


def _precision(truth: Sequence[Detections], found: Sequence[Detections], max_detections: int) -> Array:
    """Give the precision (IoU thresholds, recalls, classes); -1 for classes that the truth lacks."""
    with redirect_stdout(StringIO()):  # it reports its progress by printing
        evaluation = COCOeval(_dataset(truth), _dataset(found), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [_ANY_SIZE], ["all"]
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Array = evaluation.eval["precision"][..., 0, 0]
    return precision


def _mean(precision: Array) -> float:
    return float(precision[precision > -1].mean())


def _dataset(images: Sequence[Detections]) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": int(c)} for c in np.unique(np.concatenate([each.class_id for each in images]))],
        "annotations": list(_annotations(images)),
    }
    dataset.createIndex()
    return dataset


def _annotations(images: Sequence[Detections]) -> Iterator[dict[str, Any]]:
    number = 0
    for i, each in enumerate(images):
        sizes = each.xyxy[:, 2:] - each.xyxy[:, :2]
        for corner, size, label, score in zip(each.xyxy[:, :2], sizes, each.class_id, each.confidence, strict=True):
            number += 1  # from one: the evaluation takes a match with number nought for no match
            yield {
                "id": number,
                "image_id": i,
                "category_id": int(label),
                "bbox": [*corner.tolist(), *size.tolist()],
                "area": float(size.prod()),
                "iscrowd": 0,
                "score": float(score),
            }
