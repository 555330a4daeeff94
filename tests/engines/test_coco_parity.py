"""Our figures against those of pycocotools, which gets the same annotations and results as JSON."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import astuple
from io import StringIO
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools", reason="needs pycocotools: pip install 'streamer[eval]'")

from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.metrics.coco import Evaluation, Kind, evaluate
from engines.metrics.truth import Found, Truth
from engines.rle import Rle
from engines.types import Array, Detections

CATEGORIES = (3, 17, 90, 4000)  # the second is never true, the third never found
SIZE = (150, 200)


class World:
    """A random data set, and what a random detector finds in it."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        ids = self._rng.choice(10**9, self._rng.integers(1, 6), replace=False).tolist()
        self.images = [{"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in ids]
        self.annotations = [a for i in ids for a in self._true(i)]
        for number, each in enumerate(self.annotations):
            each["id"] = 7 + 3 * number
        self.results = [r for i in ids for r in self._found(i)]

    def data(self) -> dict[str, Any]:
        categories = [{"id": c, "name": f"class {c}"} for c in CATEGORIES]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}

    def found(self) -> dict[int, Found]:
        return {image["id"]: self._columns(image["id"]) for image in self.images}

    def _columns(self, image: int) -> Found:
        rows = [each for each in self.results if each["image_id"] == image]
        xywh = np.array([each["bbox"] for each in rows], np.float64).reshape(-1, 4)
        xyxy = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)
        classes = np.array([each["category_id"] for each in rows], np.int32)
        masks = tuple(Rle(SIZE, each["segmentation"]["counts"].encode()) for each in rows)
        scores = np.array([each["score"] for each in rows], np.float32)
        return Found(Detections(xyxy, classes, scores), masks)

    def _box(self) -> list[float]:
        """Choose a box of whole pixels, which nothing rounds; of any of COCO's three sizes."""
        side = int(self._rng.choice([12, 50, 120]))
        width, height = self._rng.integers(side // 2, side + 20, 2)
        x, y = self._rng.integers(0, SIZE[1] - 20), self._rng.integers(0, SIZE[0] - 20)
        return [float(x), float(y), float(min(width, SIZE[1] - x)), float(min(height, SIZE[0] - y))]

    def _true(self, image: int) -> list[dict[str, Any]]:
        count = int(self._rng.choice([0, 1, 8]))
        return [self._annotation(image, self._box()) for _ in range(count)]

    def _annotation(self, image: int, box: list[float]) -> dict[str, Any]:
        crowd = bool(self._rng.random() < 0.15)
        segmentation: Any = _counts(box) if crowd else [_diamond(box)]
        return {
            "image_id": image,
            "category_id": int(self._rng.choice([c for c in CATEGORIES if c != 17])),
            "bbox": box,
            "area": box[2] * box[3] * float(self._rng.choice([1, 0.6])),
            "iscrowd": int(crowd),
            "segmentation": segmentation,
        }

    def _found(self, image: int) -> list[dict[str, Any]]:
        true = [each for each in self.annotations if each["image_id"] == image]
        near = [self._result(image, _moved(a["bbox"], self._rng), a["category_id"]) for a in true for _ in range(2)]
        anywhere = int(self._rng.choice([0, 5, 130]))  # a hundred of a class in an image count
        return [r for r in near if r["category_id"] != 90] + [
            self._result(image, self._box(), int(self._rng.choice([3, 17, 4000]))) for _ in range(anywhere)
        ]

    def _result(self, image: int, box: list[float], category: int) -> dict[str, Any]:
        coded = mask.merge(mask.frPyObjects([_diamond(box)], *SIZE))
        segmentation = {"size": list(SIZE), "counts": coded["counts"].decode()}
        score = int(self._rng.integers(1, 32)) / 32  # few, so that many are equal; and no type rounds them
        told = {"image_id": image, "category_id": category, "bbox": box, "score": score}
        return told | {"segmentation": segmentation}


def _diamond(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height, x, y + height / 2]


def _counts(box: list[float]) -> dict[str, Any]:
    """Make the run lengths of a box, uncompressed, as COCO has them for crowds."""
    x, y, width, height = (int(each) for each in box)
    pixels = np.zeros(SIZE, np.bool_)
    pixels[y : y + height, x : x + width] = True
    flat = np.concatenate([[False], pixels.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
    return {"size": list(SIZE), "counts": counts}


def _moved(box: list[float], rng: np.random.Generator) -> list[float]:
    dx, dy = rng.integers(-3, 4, 2)
    return [max(0.0, box[0] + float(dx)), max(0.0, box[1] + float(dy)), box[2], box[3]]


def theirs(world: World, kind: Literal["bbox", "segm"]) -> Any:
    """Give the JSON to pycocotools as it is."""
    with redirect_stdout(StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(world.data()))
        truth.createIndex()
        left_out = "segmentation" if kind == "bbox" else "bbox"  # or masks would be sorted into sizes by their boxes
        rows = [{key: value for key, value in row.items() if key != left_out} for row in world.results]
        evaluation = COCOeval(truth, truth.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def ours(world: World, kind: Kind) -> Evaluation:
    return evaluate(Truth.parse(json.dumps(world.data()).encode()), world.found(), kind)


def unknown(values: Array) -> Array:
    return np.where(values == -1, np.nan, values)


@pytest.mark.parametrize(("kind", "iou_type"), [("boxes", "bbox"), ("masks", "segm")])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_all_figures_are_those_of_pycocotools(kind: Kind, iou_type: Literal["bbox", "segm"], seed: int) -> None:
    world = World(seed)
    if not world.results:  # pycocotools cannot load none
        return
    expected, got = theirs(world, iou_type), ours(world, kind)
    np.testing.assert_allclose(astuple(got.summary), unknown(expected.stats), atol=1e-6)
    precision = unknown(expected.eval["precision"][:, :, :, 0, -1])  # IoU, recall, class
    np.testing.assert_allclose(got.precision, precision.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_allclose([each.ap for each in got.classes], precision.mean(axis=(0, 1)), atol=1e-6)


def test_the_random_worlds_hold_what_is_hard() -> None:
    worlds = [World(seed) for seed in range(20)]
    annotations = [a for world in worlds for a in world.annotations]
    assert any(a["iscrowd"] for a in annotations)
    assert {a["category_id"] for a in annotations} == {3, 90, 4000}
    assert any(
        image["id"] not in {a["image_id"] for a in world.annotations} for world in worlds for image in world.images
    )
    assert any(sum(r["category_id"] == 3 for r in world.results) > 100 for world in worlds)
    scores = [astuple(ours(world, "boxes").summary) for world in worlds]
    assert np.nanmin(scores) < 0.2 < 0.6 < np.nanmax(scores)


def test_figures_of_classes_are_named_and_counted() -> None:
    world = World(1)
    got = ours(world, "boxes")
    assert [(each.category, each.name) for each in got.classes] == [(c, f"class {c}") for c in CATEGORIES]
    true = [a["category_id"] for a in world.annotations if not a["iscrowd"]]
    assert [each.objects for each in got.classes] == [true.count(c) for c in CATEGORIES]


def test_an_object_with_the_id_nought_can_be_found() -> None:
    world = World(1)
    world.annotations[0] |= {"id": 0, "iscrowd": 0, "category_id": 3}
    first = world.annotations[0]
    world.results = [r for r in world.results if r["category_id"] != 3]
    world.annotations = [first, *(a for a in world.annotations[1:] if a["category_id"] != 3)]
    world.results.append(world._result(first["image_id"], first["bbox"], 3))
    assert ours(world, "boxes").classes[0].ap == pytest.approx(1)


def test_what_lies_in_other_images_counts_nowhere() -> None:
    world = World(1)
    found = world.found()
    with_more = found | {-5: next(iter(found.values()))}
    truth = Truth.parse(json.dumps(world.data()).encode())
    np.testing.assert_equal(astuple(evaluate(truth, with_more).summary), astuple(evaluate(truth, found).summary))


def test_masks_cannot_be_measured_without_any() -> None:
    world = World(1)
    bare = {image: Found(each.objects) for image, each in world.found().items()}
    with pytest.raises(ValueError, match="without masks"):
        evaluate(Truth.parse(json.dumps(world.data()).encode()), bare, "masks")
