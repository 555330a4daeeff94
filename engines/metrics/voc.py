"""Average precision as PASCAL VOC defines it: at one IoU, from 11 points of recall (2007) or from all (2010 on).

Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge", section 4.2,
https://doi.org/10.1007/s11263-009-0275-4. Each found object, the most confident first, claims the true one that it
overlaps most: it is right when nobody has claimed that one yet, else a false alarm. Objects that are difficult count
neither way, nor does what lies in a crowd. Boxes have real-valued edges, where VOC's own code counts whole pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import iou
from engines.metrics.truth import Annotation, Found, Truth, rows_by_category
from engines.types import Array, Bool, Detections, Float

Double = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall of one class, after each of N found objects, the most confident first."""

    confidence: Float  # (N,)
    right: Bool  # (N,)
    objects: int  # that are to be found

    @property
    def precision(self) -> Double:
        precision: Double = np.cumsum(self.right) / np.arange(1, len(self.right) + 1)
        return precision

    @property
    def recall(self) -> Double:
        recall: Double = np.cumsum(self.right) / max(1, self.objects)
        return recall


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One category's average precision, in 0..1; NaN where nothing is to be found."""

    category: int
    name: str
    objects: int
    ap_11_points: float
    ap_all_points: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Average precision in 0..1, averaged over the classes of the truth; NaN where that is empty."""

    iou: float
    ap_11_points: float
    ap_all_points: float
    classes: tuple[ClassFigures, ...]  # by category id


def evaluate(truth: Truth, found: Mapping[int, Found], iou: float = 0.5) -> Evaluation:
    """Measure the boxes that were *found* in each image (by id) against the truth; two are the same from *iou* on."""
    objects = truth.by_category()
    rows = rows_by_category(truth, found)
    classes = []
    for category, name in sorted(truth.categories.items()):
        columns = {image: _columns(found[image].objects[each]) for image, each in rows.get(category, ())}
        classes.append(_class_figures(category, name, curve(objects.get(category, ()), columns, iou)))
    there = [each for each in classes if each.objects]
    eleven, every = _mean([each.ap_11_points for each in there]), _mean([each.ap_all_points for each in there])
    return Evaluation(iou, eleven, every, tuple(classes))


def curve(truth: Sequence[Annotation], found: Mapping[int, tuple[Float, Float]], threshold: float) -> Curve:
    """Judge what was found of one class, boxes and confidences by image; of equal confidences the earlier is better."""
    true: dict[int, list[Annotation]] = {}
    for each in truth:
        true.setdefault(each.picture, []).append(each)
    confidence: list[Array] = [np.zeros(0, np.float32)]
    right: list[Array] = [np.zeros(0, np.bool_)]
    for image in sorted(found):
        boxes, scores = found[image]
        if image not in true:  # as most images are for most classes
            confidence.append(scores)
            right.append(np.zeros(len(scores), np.bool_))
            continue
        best = np.argsort(-scores, kind="stable")
        verdict, counts = _judge(_Objects.of(true[image]), boxes[best], threshold)
        confidence.append(scores[best][counts])
        right.append(verdict[counts])
    scores, verdicts = np.concatenate(confidence), np.concatenate(right)
    order = np.argsort(-scores, kind="stable")
    return Curve(scores[order], verdicts[order], sum(not (each.difficult or each.crowd) for each in truth))


def average_precision_11_points(curve: Curve) -> float:
    """Average the best precision at recall 0, 0.1 … 1 and beyond (VOC 2007); NaN where nothing is to be found."""
    if not curve.objects:
        return float("nan")
    # In whole numbers: in fractions, three of ten would miss the point 0.3 by a rounding.
    reached = 10 * np.cumsum(curve.right)[None] >= np.arange(11)[:, None] * curve.objects
    return float(np.where(reached, curve.precision, 0).max(axis=1, initial=0).mean())


def average_precision_all_points(curve: Curve) -> float:
    """Integrate the best precision at each recall and beyond (VOC 2010); NaN where nothing is to be found."""
    if not curve.objects:
        return float("nan")
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(envelope[curve.right].sum() / curve.objects)  # recall grows by one object at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """The true objects of one class in one image."""

    xyxy: Float  # (M, 4) of single ones
    difficult: Bool  # (M,)
    crowds: Float  # (K, 4)

    @classmethod
    def of(cls, objects: Sequence[Annotation]) -> _Objects:
        single = [each for each in objects if not each.crowd]
        difficult = np.array([each.difficult for each in single], np.bool_)
        return cls(_xyxy(single), difficult, _xyxy([each for each in objects if each.crowd]))


def _xyxy(objects: Sequence[Annotation]) -> Float:
    xywh = np.array([each.xywh for each in objects], np.float64).reshape(-1, 4)
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)


def _judge(objects: _Objects, boxes: Float, threshold: float) -> tuple[Bool, Bool]:
    """Go down the found boxes (N, 4): which of them are right, and which count at all."""
    right, counts = np.zeros(len(boxes), np.bool_), np.ones(len(boxes), np.bool_)
    claimed = np.zeros(len(objects.xyxy), np.bool_)
    overlap = iou(boxes, objects.xyxy)
    crowded = _inside(boxes, objects.crowds).max(axis=1, initial=0) >= threshold
    for i, row in enumerate(overlap):
        closest = int(row.argmax()) if row.size else -1
        if closest < 0 or row[closest] < threshold:
            counts[i] = not crowded[i]
        elif objects.difficult[closest]:
            counts[i] = False
        else:
            right[i] = not claimed[closest]
            claimed[closest] = True
    return right, counts


def _inside(boxes: Float, crowds: Float) -> Float:
    """Say which share of each box (N, 4) lies in each crowd (K, 4), which is so large that IoU is no use."""
    shared = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:]) - np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    share: Float = np.maximum(shared, 0).prod(axis=2) / np.maximum(area, np.finfo(np.float32).tiny)[:, None]
    return share


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _columns(objects: Detections) -> tuple[Float, Float]:
    return objects.xyxy, objects.confidence


def _class_figures(category: int, name: str, curve: Curve) -> ClassFigures:
    eleven, every = average_precision_11_points(curve), average_precision_all_points(curve)
    return ClassFigures(category, name, curve.objects, eleven, every)
