"""COCO annotations as people have them, right and wrong; and names that mean the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="needs pycocotools: pip install 'streamer[eval]'")

from engines.metrics.classes import match
from engines.metrics.outlines import traced
from engines.metrics.truth import Annotation, Found, Truth, rows_by_category
from engines.rle import decode, encode
from engines.types import Detections

IMAGES = [
    {"id": 20, "file_name": "night/b.jpg", "height": 6, "width": 8, "licence": 3},
    {"id": 10, "file_name": "a.jpg", "height": 6, "width": 8},
]
OBJECT = {"id": 1, "image_id": 20, "category_id": 5, "bbox": [1, 2, 3.5, 2]}


def coco(*annotations: dict[str, Any], **others: Any) -> bytes:
    data = {"images": IMAGES, "annotations": annotations, "categories": [{"id": 5, "name": "cat"}]}
    return json.dumps(data | others).encode()


def test_images_come_in_the_order_of_their_ids() -> None:
    truth = Truth.parse(coco(OBJECT))
    assert [(each.id, each.file_name, each.size) for each in truth.pictures] == [
        (10, "a.jpg", (6, 8)),
        (20, "night/b.jpg", (6, 8)),
    ]
    assert truth.categories == {5: "cat"}
    assert truth.annotations == (Annotation(20, 5, (1, 2, 3.5, 2), area=7),)


def test_what_marks_an_object_is_read() -> None:
    marks: list[dict[str, Any]] = [{"iscrowd": 1, "area": 4}, {"ignore": 1}, {"difficult": True}, {"segmentation": []}]
    crowd, ignored, difficult, bare = Truth.parse(coco(*(OBJECT | mark for mark in marks))).annotations
    assert (crowd.crowd, crowd.area) == (True, 4)
    assert ignored.difficult
    assert difficult.difficult
    assert (bare.crowd, bare.difficult, bare.segmentation) == (False, False, None)


def test_the_first_images_keep_what_is_in_them() -> None:
    truth = Truth.parse(coco(OBJECT, OBJECT | {"image_id": 10}))
    assert [each.picture for each in truth.first(1).annotations] == [10]
    assert len(truth.first(9).annotations) == 2


def test_objects_of_images_that_are_not_listed_are_left_out() -> None:
    assert not Truth.parse(coco(OBJECT | {"image_id": 30})).annotations


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "invalid JSON"),
        (b'{"images": [', "invalid JSON"),
        (b"[]", "should be an object"),
        (b"{}", "images: field required"),
        (coco(OBJECT | {"bbox": [1, 2, 3]}), r"annotations\.0\.bbox"),
        (
            coco(OBJECT, OBJECT | {"bbox": [1, 2, 3, float("nan")]}),
            r"annotations\.1\.bbox\.3: input should be a finite",
        ),
        (coco(OBJECT | {"image_id": "b"}), r"annotations\.0\.image_id: input should be a valid integer"),
        (coco(OBJECT | {"category_id": 6}), r"annotations\.0 is of category 6, which is not among its categories"),
        (coco(images=[*IMAGES, IMAGES[0]]), "two of its images have the id 20"),
        (coco(categories=[{"id": 5, "name": "a"}, {"id": 5, "name": "b"}]), "two of its categories have the id 5"),
        (coco(images=[{"id": 1, "file_name": "a", "height": 0, "width": 2}]), r"images\.0\.height"),
    ],
)
def test_what_is_no_annotation_file_says_where(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){says}"):
        Truth.parse(text)


SQUARE = np.zeros((6, 8), np.bool_)
SQUARE[2:4, 1:5] = True
RUNS = [8, 2, 4, 2, 4, 2, 4, 2, 20]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 5, 2, 5, 4, 1, 4]],
        [[1, 2, 3, 2, 3, 4, 1, 4], [3, 2, 5, 2, 5, 4, 3, 4]],  # in two parts
        {"size": [6, 8], "counts": RUNS},
        {"size": [6, 8], "counts": encode(SQUARE).counts.decode()},
    ],
)
def test_all_kinds_of_segmentations_are_the_same_mask(segmentation: Any) -> None:
    (read,) = traced(Truth.parse(coco(OBJECT | {"segmentation": segmentation}))).annotations
    np.testing.assert_array_equal(decode(read.segmentation), SQUARE)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        (None, "neither polygons nor an RLE"),
        ("a square", "neither polygons nor an RLE"),
        ([[1, 2, 3, 4]], "three points or more"),
        ([[1, 2, 3, 4, "x", 6]], "neither polygons nor an RLE"),
        ({"size": [6, 8]}, "counts"),
        ({"size": [8, 6], "counts": RUNS}, r"for an image of \(8, 6\)"),
        ({"size": [6, 8], "counts": RUNS[:-1]}, "28 pixels, but the image has 48"),
        ({"size": [6, 8], "counts": [60, -12]}, "neither polygons nor an RLE"),
        ({"size": [6, 8], "counts": "0"}, "neither polygons nor an RLE"),
        ({"size": [6, 8], "counts": "ä"}, "neither polygons nor an RLE"),
        ({"size": [6, 8], "counts": ""}, "neither polygons nor an RLE"),
        ({"size": [6, 8], "counts": "oooo"}, "neither polygons nor an RLE"),
    ],
)
def test_a_damaged_segmentation_is_refused(segmentation: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        traced(Truth.parse(coco(OBJECT | {"segmentation": segmentation})))


def test_rows_of_a_category_are_found_in_every_image() -> None:
    objects = Detections(np.zeros((3, 4), np.float32), np.array([5, 7, 5], np.int32), np.ones(3, np.float32))
    rows = rows_by_category(Truth.parse(coco()), {20: Found(objects), 10: Found(objects[:1])})
    assert {c: [(image, each.tolist()) for image, each in found] for c, found in rows.items()} == {
        5: [(10, [0]), (20, [0, 2])],
        7: [(20, [1])],
    }


def test_every_object_has_its_mask() -> None:
    with pytest.raises(ValueError, match="expected 0, got 1"):
        Found(Detections.empty(), (encode(SQUARE),))


# --- names ---


def test_names_match_whatever_their_case_and_spaces() -> None:
    matching = match(("person", "Traffic Light", "tv"), {1: "PERSON", 10: "traffic_light", 3: "dining-table"})
    assert matching.categories == {0: 1, 1: 10}
    assert matching.foreign == ("tv",)
    assert matching.unknown == ("dining-table",)


def test_labels_that_fill_gaps_are_no_classes() -> None:
    assert match(("background", "cat", "N/A", "unused 12"), {1: "cat"}).foreign == ()


def test_two_labels_may_mean_one_category() -> None:
    assert match(("cat", "Cat"), {1: "cat"}).categories == {0: 1, 1: 1}


@pytest.mark.parametrize(
    ("labels", "categories", "says"),
    [
        (("cat", "dog"), {1: "car"}, r"no label of the model \(cat, dog\) is among the categories \(car\)"),
        (tuple("abcdefgh"), {1: "x"}, r"\(a, b, c, d, e and 3 more\)"),
        (("cat",), {1: "cat", 2: "Cat"}, "categories 1 and 2 are both called 'Cat'"),
    ],
)
def test_names_that_cannot_be_matched(labels: tuple[str, ...], categories: dict[int, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        match(labels, categories)
