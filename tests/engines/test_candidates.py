from __future__ import annotations

import numpy as np
import pytest

from engines.boxes import Suppression
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.errors import ModelError
from engines.regions import Region
from engines.types import Array, Detections, Geometry

TWICE = Geometry((128, 192), (0.5, 0.5), (0.0, 0.0))  # the source is twice as large as the input
SAME = Geometry((64, 96), (1.0, 1.0), (0.0, 0.0))
Row = tuple[list[float], float, int]  # box, score, class


def outputs(*images: list[Row]) -> dict[str, Array]:
    return {
        "boxes": np.array([[box for box, _, _ in rows] for rows in images], np.float32),
        "scores": np.array([[score for _, score, _ in rows] for rows in images], np.float32),
        "classes": np.array([[label for _, _, label in rows] for rows in images], np.int32),
    }


def decode(rows: list[Row], geometry: Geometry = SAME, options: DetectOptions | None = None) -> Detections:
    (found,) = DecodeCandidates(3, options or DetectOptions())(outputs(rows), [geometry])
    return found


def apart(count: int, score: float = 0.6) -> list[Row]:
    return [([9.0 * i, 0.0, 9.0 * i + 8, 8.0], score, i % 3) for i in range(count)]


def test_boxes_come_in_source_pixels_best_first() -> None:
    found = decode([([0, 0, 8, 8], 0.4, 1), ([16, 8, 24, 16], 0.9, 2)], TWICE)
    assert found.xyxy.tolist() == [[32, 16, 48, 32], [0, 0, 16, 16]]
    assert found.class_id.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.4])


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    box = [4.0, 4.0, 20.0, 20.0]
    found = decode([(box, 0.9, 0), (box, 0.8, 0), (box, 0.7, 1)])
    assert found.class_id.tolist() == [0, 1]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (DetectOptions(), 9),
        (DetectOptions(max_detections=7), 7),
        (DetectOptions(confidence=0.6), 0),  # more than that is asked for
        (DetectOptions(confidence=0.59), 9),
        (DetectOptions(classes=(1,)), 3),
        (DetectOptions(classes=(2, 1)), 6),
        (DetectOptions(classes=()), 0),
    ],
)
def test_options(options: DetectOptions, count: int) -> None:
    assert len(decode(apart(9, float(np.float32(0.6))), options=options)) == count


def test_wanted_classes_keep_their_own_numbers() -> None:
    assert set(decode(apart(9), options=DetectOptions(classes=(2, 1))).class_id.tolist()) == {1, 2}


def test_an_iou_of_one_suppresses_nothing() -> None:
    box = [4.0, 4.0, 20.0, 20.0]
    assert len(decode([(box, 0.9, 0), (box, 0.8, 0)], options=DetectOptions(suppression=Suppression(iou=1.0)))) == 2


def test_scores_are_those_that_soft_suppression_leaves() -> None:
    rows: list[Row] = [([0, 0, 20, 20], 0.9, 0), ([0, 0, 20, 20.5], 0.8, 0), ([40, 0, 60, 20], 0.7, 0)]
    found = decode(rows, options=DetectOptions(confidence=0.01, suppression=Suppression("soft-gaussian")))
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7, 0.8 * np.exp(-((20 / 20.5) ** 2) / 0.5)])
    assert len(decode(rows, options=DetectOptions(suppression=Suppression("soft-gaussian")))) == 2


def test_without_suppression_they_come_best_first_all_the_same() -> None:
    rows: list[Row] = [([0, 0, 20, 20], 0.5, 0), ([0, 0, 20, 20], 0.9, 0)]
    found = decode(rows, options=DetectOptions(suppression=Suppression("none")))
    assert found.confidence.tolist() == pytest.approx([0.9, 0.5])


def test_size_is_that_of_the_shorter_side_in_the_source() -> None:
    rows: list[Row] = [([0, 0, 8, 4], 0.9, 0), ([20, 0, 24, 8], 0.8, 0), ([40, 0, 46, 6], 0.7, 0)]
    assert len(decode(rows, TWICE, DetectOptions(min_size=8))) == 3
    assert decode(rows, TWICE, DetectOptions(min_size=8.5)).confidence.tolist() == pytest.approx([0.7])


def test_only_what_stands_in_a_region_is_wanted_and_told_where() -> None:
    left = Region("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    top = Region("top", ((0, 0), (96, 0), (96, 30), (0, 30)))
    rows: list[Row] = [
        ([60, 40, 68, 60], 0.9, 0),
        ([60, 10, 68, 20], 0.8, 0),
        ([4, 4, 12, 20], 0.7, 0),
        ([4, 40, 12, 60], 0.6, 0),
    ]
    found = decode(rows, options=DetectOptions(regions=(left, top)))
    assert found.confidence.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert found.regions is not None
    assert found.regions.tolist() == [[False, True], [True, True], [True, False]]
    assert len(decode(rows, options=DetectOptions(regions=(left, top), max_detections=1))) == 1
    assert decode(rows).regions is None


def test_rows_go_with_their_geometry() -> None:
    rows: list[Row] = [([0, 0, 8, 8], 0.9, 0)]
    one, two = DecodeCandidates(3, DetectOptions())(outputs(rows, rows), [TWICE, SAME])
    assert (one.xyxy.tolist(), two.xyxy.tolist()) == ([[0, 0, 16, 16]], [[0, 0, 8, 8]])


def test_what_is_found_outlives_the_runtimes_memory() -> None:
    given = outputs(apart(3))
    (found,) = DecodeCandidates(3, DetectOptions())(given, [SAME])
    before = found.xyxy.copy(), found.confidence.copy(), found.class_id.copy()
    for array in given.values():
        array[:] = 0
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (found.xyxy, found.confidence, found.class_id), strict=True)
    )


def test_boxes_in_the_padding_are_no_detections() -> None:
    assert len(decode([([40, 30, 48, 36], 0.9, 0)], Geometry((20, 30), (1.0, 1.0), (0.0, 0.0)))) == 0


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_not_finite_is_refused_if_it_scores_enough(bad: float, column: int) -> None:
    box = [0.0, 0.0, 8.0, 8.0]
    box[column] = bad
    with pytest.raises(ModelError, match="output 'boxes' holds NaN or infinity"):
        decode([(box, 0.9, 0), ([16, 0, 24, 8], 0.8, 0)])
    assert len(decode([(box, 0.1, 0), ([16, 0, 24, 8], 0.8, 0)])) == 1


def test_a_kernel_may_overshoot_one_by_a_rounding() -> None:
    assert decode([([0, 0, 8, 8], 1.0000001, 0)]).confidence.tolist() == [1.0]


def test_scores_without_their_sigmoid_are_refused() -> None:
    with pytest.raises(ModelError, match="sigmoid in the graph"):
        decode([([0, 0, 8, 8], 8.0, 0)])


def test_classes_without_a_label_are_refused() -> None:
    with pytest.raises(ModelError, match="found class 3, but its manifest has 3 labels"):
        decode([([0, 0, 8, 8], 0.9, 3)])


def test_classes_below_zero_are_refused() -> None:
    with pytest.raises(ModelError, match="found class -1"):
        decode([([0, 0, 8, 8], 0.9, -1)])


def test_nothing_found() -> None:
    assert len(decode([([0, 0, 8, 8], 0.0, 0)])) == 0


def test_outputs_of_a_graph_that_is_not_a_served_detector() -> None:
    with pytest.raises(ModelError, match=r"gives output \(1, 10, 85\): build it anew"):
        DecodeCandidates(80, DetectOptions())({"output": np.zeros((1, 10, 85), np.float32)}, [SAME])
