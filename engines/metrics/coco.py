"""Average precision and recall of detectors and segmenters, as COCO defines them and its own evaluation computes them.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context", https://arxiv.org/abs/1405.0312
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.metrics.outlines import outlined
from engines.metrics.truth import Annotation, Found, Picture, Truth, rows_by_category, xywh_of
from engines.rle import area
from engines.types import Detections, Int

Kind = Literal["boxes", "masks"]
Double = npt.NDArray[np.float64]

_IOU_TYPES = {"boxes": "bbox", "masks": "segm"}
_SIZES = {"any": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # pixels
_MOST = (1, 10, 100)  # objects of a class that count in an image
_HALF, _THREE_QUARTERS = 0, 5  # of IoU 0.50, 0.55 … 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """COCO's twelve figures, each in 0..1 and averaged over the classes of the truth; NaN where that has none."""

    ap: float  # average precision over IoU 0.50, 0.55 … 0.95, of the best 100 of a class in an image
    ap50: float
    ap75: float
    ap_small: float  # objects of less than 32 x 32 pixels
    ap_medium: float
    ap_large: float  # 96 x 96 and more
    ar1: float  # average recall over IoU 0.50, 0.55 … 0.95, of the best one of a class in an image
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One category's own figures, in 0..1; NaN where nothing is truly of it."""

    category: int
    name: str
    objects: int  # true ones, crowds left out
    ap: float
    ap50: float
    ap75: float
    ar100: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What an evaluation tells."""

    summary: Summary
    classes: tuple[ClassFigures, ...]  # C of them, by category id
    precision: Double  # (C, 10, 101): at IoU 0.50, 0.55 … 0.95 and recall 0, 0.01 … 1; NaN where nothing is true


@dataclass(frozen=True, slots=True)
class MeanAp:
    """Average precision, each in 0..1 and averaged over the classes of the truth; NaN where the truth is empty."""

    ap: float  # over IoU 0.50, 0.55 … 0.95
    ap50: float
    ap75: float


def evaluate(truth: Truth, found: Mapping[int, Found], kind: Kind = "boxes") -> Evaluation:
    """Measure what was *found* in each image (by id) against the truth; images that were not searched have nothing.

    Found objects of other categories or images count nowhere. Raises ValueError where masks are missing or damaged.
    """
    measure = _Measure(found, rows_by_category(truth, found), {each.id: each for each in truth.pictures}, kind)
    objects = truth.by_category()
    curves = {category: measure(category, objects.get(category, ())) for category in sorted(truth.categories)}
    precision = np.array([c.precision for c in curves.values()]).reshape(-1, 10, 101, len(_SIZES), len(_MOST))
    recall = np.array([c.recall for c in curves.values()]).reshape(-1, 10, len(_SIZES), len(_MOST))
    classes = tuple(
        _class_figures(category, truth.categories[category], objects.get(category, ()), each)
        for category, each in curves.items()
    )
    return Evaluation(_summary(precision, recall), classes, precision[..., 0, -1])


def mean_ap(truth: Sequence[Detections], found: Sequence[Detections], *, max_detections: int = 100) -> MeanAp:
    """Measure what was *found* in each image against its *truth*, class by class, boxes in source pixels.

    Of each image the *max_detections* most confident objects of a class count, as in COCO. Found objects of classes
    that no image truly has count nowhere. Raises ValueError when the images are not as many.
    """
    if len(truth) != len(found):
        raise ValueError(f"the truth has {len(truth)} images, but {len(found)} were searched")
    true = Truth.of(truth)
    pictures = {each.id: each for each in true.pictures}
    searched = {i: Found(each) for i, each in enumerate(found)}
    measure = _Measure(searched, rows_by_category(true, searched), pictures, "boxes", ("any",), (max_detections,))
    precisions = [measure(category, objects).precision for category, objects in true.by_category().items()]
    if not precisions:
        return MeanAp(*[float("nan")] * 3)
    all_classes = np.stack(precisions)
    return MeanAp(*(_mean(part) for part in (all_classes, all_classes[:, _HALF], all_classes[:, _THREE_QUARTERS])))


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """One category's precision (10 IoUs, 101 recalls, S sizes, M numbers of objects) and highest recall (10, S, M)."""

    precision: Double
    recall: Double


def _nothing(sizes: int, most: int) -> _Curves:
    return _Curves(np.full((10, 101, sizes, most), np.nan), np.full((10, sizes, most), np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class _Measure:
    """COCO's evaluation, a category at a time: it wants a dictionary an object, which are too many for all at once."""

    found: Mapping[int, Found]
    rows: Mapping[int, Sequence[tuple[int, Int]]]  # category -> images that it was found in, rows of each
    pictures: Mapping[int, Picture]
    kind: Kind
    sizes: Sequence[str] = tuple(_SIZES)
    most: Sequence[int] = _MOST

    def __call__(self, category: int, objects: Sequence[Annotation]) -> _Curves:
        if not objects:
            return _nothing(len(self.sizes), len(self.most))
        with redirect_stdout(StringIO()):  # it reports its progress by printing
            truth, found = self._indexed(self._true(objects)), self._indexed(self._found(category))
            evaluation = COCOeval(truth, found, _IOU_TYPES[self.kind])
            evaluation.params.imgIds = sorted({*truth.imgToAnns, *found.imgToAnns})
            evaluation.params.catIds = [category]
            evaluation.params.areaRng = [_SIZES[size] for size in self.sizes]
            evaluation.params.maxDets = list(self.most)
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"][:, :, 0], evaluation.eval["recall"][:, 0]
        return _Curves(*(np.where(figures < 0, np.nan, figures) for figures in (precision, recall)))

    def _indexed(self, objects: Iterable[dict[str, Any]]) -> COCO:
        dataset = COCO()
        dataset.dataset = {"images": [], "categories": [], "annotations": list(objects)}
        dataset.createIndex()
        # Masks are looked up by the size of their image.
        dataset.imgs = {i: {"height": each.size[0], "width": each.size[1]} for i, each in self.pictures.items()}
        return dataset

    def _true(self, objects: Sequence[Annotation]) -> Iterator[dict[str, Any]]:
        for number, each in enumerate(objects, 1):  # from one: it takes a match with number nought for no match
            yield {
                "id": number,
                "image_id": each.picture,
                "category_id": each.category,
                "bbox": list(each.xywh),
                "area": each.area,
                "iscrowd": int(each.crowd),
                "segmentation": self._outline(each),
            }

    def _outline(self, each: Annotation) -> dict[str, Any] | None:
        if self.kind == "boxes":
            return None
        rle = outlined(each, self.pictures[each.picture].size)
        return {"size": rle.size, "counts": rle.counts}

    def _found(self, category: int) -> Iterator[dict[str, Any]]:
        number = 0
        for image, rows in self.rows.get(category, ()):
            for told in self._columns(self.found[image], rows):
                number += 1
                yield {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, **told}

    def _columns(self, found: Found, rows: Int) -> Iterator[dict[str, Any]]:
        objects = found.objects[rows]
        for row, xywh, score in zip(rows, xywh_of(objects).tolist(), objects.confidence.tolist(), strict=True):
            told = {"score": score, "bbox": xywh, "area": xywh[2] * xywh[3]}
            if self.kind == "boxes":
                yield told
                continue
            if found.masks is None:
                raise ValueError("the model found objects without masks, so masks cannot be measured")
            rle = {"size": found.masks[row].size, "counts": found.masks[row].counts}
            yield told | {"segmentation": rle, "area": float(area(found.masks[row]))}


def _summary(precision: Double, recall: Double) -> Summary:
    """Average precision (C, 10, 101, 4, 3) and recall (C, 10, 4, 3) into the twelve figures."""
    best = precision[..., -1]
    thresholds = (best[..., 0], best[:, _HALF, :, 0], best[:, _THREE_QUARTERS, :, 0])
    parts = [*thresholds, *(best[..., size] for size in (1, 2, 3))]
    parts += [recall[..., 0, most] for most in (0, 1, 2)] + [recall[..., size, -1] for size in (1, 2, 3)]
    return Summary(*map(_mean, parts))


def _class_figures(category: int, name: str, objects: Sequence[Annotation], curves: _Curves) -> ClassFigures:
    best = curves.precision[:, :, 0, -1]
    figures = (best, best[_HALF], best[_THREE_QUARTERS], curves.recall[:, 0, -1])
    return ClassFigures(category, name, sum(not each.crowd for each in objects), *map(_mean, figures))


def _mean(figures: Double) -> float:
    there = figures[~np.isnan(figures)]
    return float(there.mean()) if there.size else float("nan")
