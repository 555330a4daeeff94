"""VOC's average precision, on cases small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.metrics.truth import Annotation, Found, Truth
from engines.metrics.voc import (
    Curve,
    Evaluation,
    average_precision_11_points,
    average_precision_all_points,
    curve,
    evaluate,
)
from engines.types import Detections

A, B = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 10.0, 10.0)  # x, y, width, height
NOWHERE = (80.0, 80.0, 10.0, 10.0)
Box = tuple[float, float, float, float]
Row = tuple[Box, float]  # box, confidence


def true(box: Box, *, crowd: bool = False, difficult: bool = False, picture: int = 0) -> Annotation:
    return Annotation(picture, 1, box, box[2] * box[3], crowd, difficult)


def found(*rows: Row) -> Detections:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes, np.ones(len(rows), np.int32), np.array([row[1] for row in rows], np.float32))


def judged(truth: list[Annotation], *rows: Row) -> Curve:
    objects = found(*rows)
    return curve(truth, {0: (objects.xyxy, objects.confidence)}, 0.5)


def test_the_textbook_example() -> None:
    """Two objects; three are found, the second of them where nothing is."""
    got = judged([true(A), true(B)], (A, 0.9), (NOWHERE, 0.8), (B, 0.7))
    assert got.precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert got.recall == pytest.approx([0.5, 0.5, 1])
    assert average_precision_all_points(got) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision_11_points(got) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)  # recall 0 … 0.5, 0.6 … 1


def test_what_is_never_found_has_no_precision() -> None:
    got = judged([true(A), true(B)], (A, 0.9))
    assert average_precision_all_points(got) == pytest.approx(0.5)
    assert average_precision_11_points(got) == pytest.approx(6 / 11)


def test_recall_of_tenths_reaches_their_points() -> None:
    for right in range(11):
        got = Curve(np.ones(right, np.float32), np.ones(right, np.bool_), 10)
        assert average_precision_11_points(got) == pytest.approx((right + 1) / 11 if right else 0)


def test_an_object_is_found_once_by_the_most_confident() -> None:
    got = judged([true(A)], (A, 0.5), (A, 0.9))
    assert got.right.tolist() == [True, False]
    assert got.confidence == pytest.approx([0.9, 0.5])


def test_a_second_box_does_not_move_on_to_another_object() -> None:
    near = (2.0, 0.0, 10.0, 10.0)  # overlaps what is found by more than half, but less than A does
    assert judged([true(A), true(near)], (A, 0.9), (A, 0.8)).right.tolist() == [True, False]


def test_half_is_enough_and_less_is_not() -> None:
    assert judged([true(A)], ((0.0, 0.0, 10.0, 5.0), 0.9)).right.tolist() == [True]
    assert judged([true(A)], ((0.0, 0.0, 10.0, 4.9), 0.9)).right.tolist() == [False]


def test_difficult_objects_count_neither_way() -> None:
    got = judged([true(A), true(B, difficult=True)], (B, 0.9), (B, 0.8), (A, 0.7))
    assert (got.right.tolist(), got.objects) == ([True], 1)
    assert average_precision_all_points(got) == pytest.approx(1)


def test_what_lies_in_a_crowd_counts_neither_way() -> None:
    crowd = true((40.0, 0.0, 60.0, 60.0), crowd=True)
    got = judged([true(A), crowd], (B, 0.9), (NOWHERE, 0.8), (A, 0.7))
    assert (got.right.tolist(), got.objects) == ([False, True], 1)


def measured(truth: list[Annotation], objects: dict[int, Detections]) -> Evaluation:
    whole = Truth.of([Detections.empty()] * 3)
    data = Truth(whole.pictures, {1: "cat", 2: "dog"}, tuple(truth))
    return evaluate(data, {image: Found(each) for image, each in objects.items()})


def test_ranks_go_across_images_and_classes_without_objects_are_left_out() -> None:
    truth = [true(A), true(A, picture=1)]
    got = measured(truth, {0: found((A, 0.6)), 1: found((NOWHERE, 0.9), (A, 0.3)), 2: found()})
    cat, dog = got.classes
    assert (cat.name, cat.objects) == ("cat", 2)
    assert cat.ap_all_points == pytest.approx(2 / 3)  # precision 0, 1/2, 2/3
    assert got.ap_all_points == cat.ap_all_points
    assert math.isnan(dog.ap_11_points)


def test_without_any_truth_there_is_no_number() -> None:
    assert math.isnan(measured([], {0: found((A, 0.9))}).ap_11_points)


def test_nothing_found_scores_nought() -> None:
    got = measured([true(A)], {})
    assert (got.ap_11_points, got.ap_all_points) == (0, 0)


verdicts = st.lists(st.booleans(), max_size=20)


@settings(deadline=None, max_examples=100)
@given(verdicts, st.integers(0, 5))
def test_it_is_the_definition(right: list[bool], missed: int) -> None:
    """Against Everingham et al. 2010: the highest precision at each recall and beyond."""
    objects = sum(right) + missed
    got = Curve(np.linspace(1, 0.5, len(right), dtype=np.float32), np.array(right, np.bool_), objects)
    if not objects:
        assert math.isnan(average_precision_all_points(got))
        return
    points = [(sum(right[: n + 1]) / objects, sum(right[: n + 1]) / (n + 1)) for n in range(len(right))]

    def best(recall: float) -> float:
        return max((p for r, p in points if r >= recall - 1e-9), default=0.0)

    steps = [best((n + 1) / objects) / objects for n in range(objects)]
    assert average_precision_all_points(got) == pytest.approx(sum(steps))
    assert average_precision_11_points(got) == pytest.approx(sum(best(n / 10) for n in range(11)) / 11)
